import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;

/**
 * Consumers of one group are replaced one by one, from the classic to the consumer protocol and back, while records come: each record is
 * read, and the group is of the kind that its members make it. main: BOOTSTRAP NAME, with a line on stdout at the end.
 */
public class GroupMigration {
    private static final int MEMBERS = 2, PARTITIONS = 6;

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], name = args[1];
        Set<Integer> seen = ConcurrentHashMap.newKeySet();
        AtomicInteger sent = new AtomicInteger();
        AtomicBoolean enough = new AtomicBoolean();
        ExecutorService threads = Executors.newCachedThreadPool();
        try (Admin admin = Check.admin(bootstrap)) {
            Check.create(admin, name, PARTITIONS);
            Future<?> producing = threads.submit(() -> {
                try (var producer = Check.producer(bootstrap)) {
                    while (!enough.get()) {
                        int n = sent.getAndIncrement();
                        producer.send(new ProducerRecord<>(name, n % PARTITIONS, null, Integer.toString(n).getBytes(UTF_8)));
                        Thread.sleep(2);
                    }
                }
                return null;
            });
            List<Member> members = new ArrayList<>();
            for (int i = 0; i < MEMBERS; i++)
                members.add(new Member(threads, bootstrap, name, "classic", seen));
            settle(admin, name, members, GroupType.CLASSIC);
            for (String protocol : List.of("consumer", "classic")) {
                for (int i = 0; i < MEMBERS; i++) {
                    members.get(i).end();
                    members.set(i, new Member(threads, bootstrap, name, protocol, seen));
                    boolean classic = members.stream().allMatch(member -> member.protocol.equals("classic"));
                    settle(admin, name, members, classic ? GroupType.CLASSIC : GroupType.CONSUMER);
                }
            }
            enough.set(true);
            producing.get();
            Check.until("all " + sent + " records", () -> {
                for (var member : members)
                    member.check();
                return seen.size() == sent.get();
            });
            for (var member : members)
                member.end();
        } finally {
            threads.shutdownNow();
        }
        System.out.println("ok " + name);
    }

    private static void settle(Admin admin, String group, List<Member> members, GroupType type) throws Exception {
        Check.until("a share for each in a group of the kind " + type, () -> {
            for (var member : members)
                member.check();
            if (members.stream().anyMatch(member -> member.partitions.get() != PARTITIONS / MEMBERS))
                return false;
            var listed = admin.listGroups().all().get().stream().filter(one -> one.groupId().equals(group)).findFirst();
            return listed.isPresent() && listed.get().type().equals(Optional.of(type));
        });
    }

    /** A consumer in a thread of its own, which commits what it has read. */
    private static final class Member {
        final String protocol;
        final AtomicInteger partitions = new AtomicInteger(-1);
        private final AtomicBoolean over = new AtomicBoolean();
        private final Future<?> running;

        Member(ExecutorService threads, String bootstrap, String name, String protocol, Set<Integer> seen) {
            this.protocol = protocol;
            Map<String, Object> more = new HashMap<>(Map.of("group.id", name, "group.protocol", protocol));
            if (protocol.equals("classic"))
                more.putAll(Map.of("heartbeat.interval.ms", 200, "session.timeout.ms", 30000));
            List<Object> flat = new ArrayList<>();
            more.forEach((key, value) -> flat.addAll(List.of(key, value)));
            running = threads.submit(() -> {
                try (var consumer = Check.consumer(bootstrap, flat.toArray())) {
                    consumer.subscribe(List.of(name), new ConsumerRebalanceListener() {
                        public void onPartitionsRevoked(Collection<TopicPartition> gone) {
                            consumer.commitSync();
                        }

                        public void onPartitionsAssigned(Collection<TopicPartition> come) { }
                    });
                    while (!over.get()) {
                        for (var record : consumer.poll(Duration.ofMillis(50)))
                            seen.add(Integer.parseInt(new String(record.value(), UTF_8)));
                        partitions.set(consumer.assignment().size());
                    }
                    consumer.commitSync();
                }
                return null;
            });
        }

        void check() throws Exception {
            if (running.isDone())
                running.get();
        }

        void end() throws Exception {
            over.set(true);
            running.get(60, TimeUnit.SECONDS);
        }
    }
}
