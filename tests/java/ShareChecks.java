import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;

/** Java's share consumer: a topic as a work queue. main: BOOTSTRAP CHECK.. */
public class ShareChecks {
    public static void main(String[] args) throws Exception {
        Check.run(ShareChecks.class, args);
    }

    private static KafkaShareConsumer<byte[], byte[]> consumer(String bootstrap, String group, String mode, String topic) {
        Map<String, Object> config = Check.config(bootstrap, "group.id", group, "share.acknowledgement.mode", mode,
            "reconnect.backoff.max.ms", 500, "default.api.timeout.ms", 60000);
        config.put("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        config.put("value.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        KafkaShareConsumer<byte[], byte[]> consumer = new KafkaShareConsumer<>(config);
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    /** A topic with records "from" to "to", and a group that begins with the first of them. */
    private static void prepare(Admin admin, String bootstrap, String topic, String group, int records) throws Exception {
        Check.create(admin, topic, 1);
        set(admin, group, "share.auto.offset.reset", "earliest");
        produce(bootstrap, topic, 0, records);
    }

    private static void set(Admin admin, String group, String name, String value) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.GROUP, group);
        var op = new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(op))).all().get();
    }

    private static void produce(String bootstrap, String topic, int from, int to) throws Exception {
        try (var producer = Check.producer(bootstrap)) {
            for (int i = from; i < to; i++)
                producer.send(new ProducerRecord<>(topic, 0, null, Integer.toString(i).getBytes(UTF_8)));
            producer.flush();
        }
    }

    private static int number(ConsumerRecord<byte[], byte[]> record) {
        return Integer.parseInt(new String(record.value(), UTF_8));
    }

    /** Polls until something comes. */
    private static List<ConsumerRecord<byte[], byte[]>> some(KafkaShareConsumer<byte[], byte[]> consumer) {
        long limit = System.nanoTime() + Check.LIMIT.toNanos();
        while (System.nanoTime() < limit) {
            List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
            if (!records.isEmpty())
                return records;
        }
        throw new AssertionError("no record came");
    }

    private static void committed(KafkaShareConsumer<byte[], byte[]> consumer) {
        consumer.commitSync().forEach((partition, error) -> Check.equal(Optional.empty(), error, "commit of " + partition));
    }

    static void what_was_polled_is_acknowledged_by_the_next_poll(String bootstrap) throws Exception {
        String topic = Check.unique("share"), group = Check.unique("implicit");
        Set<Integer> seen = new HashSet<>();
        try (Admin admin = Check.admin(bootstrap)) {
            prepare(admin, bootstrap, topic, group, 300);
            try (var consumer = consumer(bootstrap, group, "implicit", topic)) {
                while (seen.size() < 300)
                    some(consumer).forEach(r -> Check.isTrue(seen.add(number(r)), "record " + number(r) + " came twice"));
                committed(consumer);
            }
            produce(bootstrap, topic, 300, 310);
            try (var consumer = consumer(bootstrap, group, "implicit", topic)) {
                while (seen.size() < 310)
                    some(consumer).forEach(r -> Check.isTrue(seen.add(number(r)), "record " + number(r) + " came twice"));
            }
        }
    }

    static void released_comes_again_and_rejected_does_not(String bootstrap) throws Exception {
        String topic = Check.unique("share"), group = Check.unique("explicit");
        try (Admin admin = Check.admin(bootstrap)) {
            prepare(admin, bootstrap, topic, group, 30);
            Map<Integer, Integer> count = new TreeMap<>();
            try (var consumer = consumer(bootstrap, group, "explicit", topic)) {
                Set<Integer> left = new TreeSet<>();
                for (int i = 0; i < 30; i++)
                    left.add(i);
                while (!left.isEmpty()) {
                    for (var r : some(consumer)) {
                        int n = number(r), nth = count.merge(n, 1, Integer::sum);
                        Check.equal(Optional.of((short) nth), r.deliveryCount(), "delivery count of " + n);
                        Check.isTrue(left.contains(n), "record " + n + " is done with and came again");
                        if (n % 3 == 0)
                            consumer.acknowledge(r, AcknowledgeType.REJECT);
                        else if (n % 3 == 1 && nth < 3)
                            consumer.acknowledge(r, AcknowledgeType.RELEASE);
                        else
                            consumer.acknowledge(r);
                        if (n % 3 != 1 || nth == 3)
                            left.remove(n);
                    }
                    committed(consumer);
                }
            }
            for (int i = 0; i < 30; i++)
                Check.equal(i % 3 == 1 ? 3 : 1, count.get(i), "deliveries of " + i);
        }
    }

    static void what_is_released_too_often_is_archived(String bootstrap) throws Exception {
        String topic = Check.unique("share"), group = Check.unique("archive");
        try (Admin admin = Check.admin(bootstrap)) {
            prepare(admin, bootstrap, topic, group, 1);
            try (var consumer = consumer(bootstrap, group, "explicit", topic)) {
                for (int delivery = 1; delivery <= 5; delivery++) {
                    var records = some(consumer);
                    Check.equal(1, records.size(), "records");
                    Check.equal(Optional.of((short) delivery), records.get(0).deliveryCount(), "delivery count");
                    consumer.acknowledge(records.get(0), AcknowledgeType.RELEASE);
                    committed(consumer);
                }
                produce(bootstrap, topic, 1, 2);
                var records = some(consumer);
                Check.equal(1, number(records.get(0)), "the record after the archived one");
                records.forEach(r -> consumer.acknowledge(r));
                committed(consumer);
            }
        }
    }

    /** The broker's lock duration is short. */
    static void what_is_not_acknowledged_in_time_comes_again(String bootstrap) throws Exception {
        String topic = Check.unique("share"), group = Check.unique("lock");
        try (Admin admin = Check.admin(bootstrap)) {
            prepare(admin, bootstrap, topic, group, 3);
            try (var slow = consumer(bootstrap, group, "explicit", topic); var quick = consumer(bootstrap, group, "explicit", topic)) {
                Set<Integer> held = new HashSet<>();
                while (held.size() < 3)
                    some(slow).forEach(r -> held.add(number(r)));
                Set<Integer> again = new HashSet<>();
                while (again.size() < 3) {
                    Set<Integer> polled = new HashSet<>();
                    for (var r : some(quick)) {
                        Check.isTrue(r.deliveryCount().get() >= 2, "delivery count of " + number(r) + ": " + r.deliveryCount());
                        polled.add(number(r));
                        quick.acknowledge(r);
                    }
                    // On a slow machine its own lock may have ended: then they come once more.
                    if (quick.commitSync().values().stream().allMatch(Optional::isEmpty))
                        again.addAll(polled);
                }
            }
        }
    }

    static void consumers_share_a_partition(String bootstrap) throws Exception {
        String topic = Check.unique("share"), group = Check.unique("together");
        int least = 2000;
        AtomicInteger sent = new AtomicInteger();
        AtomicBoolean enough = new AtomicBoolean();
        Map<Integer, Integer> seen = new ConcurrentHashMap<>();
        List<Integer> each = Collections.synchronizedList(new ArrayList<>());
        try (Admin admin = Check.admin(bootstrap)) {
            prepare(admin, bootstrap, topic, group, 0);
            ExecutorService threads = Executors.newFixedThreadPool(2);
            try {
                CountDownLatch both = new CountDownLatch(2);
                List<Future<?>> running = new ArrayList<>();
                for (int t = 0; t < 2; t++)
                    running.add(threads.submit(() -> {
                        int own = 0;
                        try (var consumer = consumer(bootstrap, group, "explicit", topic)) {
                            long limit = System.nanoTime() + 3 * Check.LIMIT.toNanos();
                            while (!(enough.get() && seen.size() == sent.get()) && System.nanoTime() < limit) {
                                for (var r : consumer.poll(Duration.ofMillis(100))) {
                                    if (own++ == 0)
                                        both.countDown();
                                    consumer.acknowledge(r);
                                    seen.merge(number(r), 1, Integer::sum);
                                }
                                committed(consumer);
                            }
                        }
                        each.add(own);
                        return null;
                    }));
                // In small steps, so that neither takes everything at once; and until both have had some.
                long limit = System.nanoTime() + Check.LIMIT.toNanos();
                while (sent.get() < least || both.getCount() > 0) {
                    Check.isTrue(both.getCount() == 0 || System.nanoTime() < limit, both.getCount() + " of two have none");
                    produce(bootstrap, topic, sent.get(), sent.get() + 20);
                    sent.addAndGet(20);
                    if (both.getCount() > 0)
                        both.await(100, TimeUnit.MILLISECONDS);
                }
                enough.set(true);
                for (var future : running)
                    future.get();
            } finally {
                threads.shutdownNow();
            }
            Check.equal(sent.get(), seen.size(), "records that came");
            Check.isTrue(seen.values().stream().allMatch(n -> n == 1), "each once: " + seen);
            Check.isTrue(each.size() == 2 && each.stream().allMatch(n -> n > 0), "both had some: " + each);
        }
    }

    static void groups_are_described_and_their_offsets_altered(String bootstrap) throws Exception {
        String topic = Check.unique("share"), group = Check.unique("admin");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Admin admin = Check.admin(bootstrap)) {
            prepare(admin, bootstrap, topic, group, 50);
            try (var consumer = consumer(bootstrap, group, "implicit", topic)) {
                Set<Integer> seen = new HashSet<>();
                while (seen.size() < 50)
                    some(consumer).forEach(r -> seen.add(number(r)));
                committed(consumer);
                var described = admin.describeShareGroups(List.of(group)).all().get().get(group);
                Check.equal(GroupState.STABLE, described.groupState(), "state");
                Check.equal(1, described.members().size(), "members");
                Check.equal(Set.of(partition), described.members().iterator().next().assignment().topicPartitions(), "assignment");
                Check.fails(GroupNotEmptyException.class, () -> admin.deleteShareGroups(List.of(group)).all().get(), "delete");
                Check.fails(GroupNotEmptyException.class,
                    () -> admin.alterShareGroupOffsets(group, Map.of(partition, 0L)).all().get(), "alter");
            }
            Check.until("the group is empty",
                () -> admin.describeShareGroups(List.of(group)).all().get().get(group).groupState() == GroupState.EMPTY);
            Check.equal(true, admin.listGroups(ListGroupsOptions.forShareGroups()).all().get().stream()
                .anyMatch(g -> g.groupId().equals(group) && g.type().equals(Optional.of(GroupType.SHARE))), "listed");
            // The start that is stored moves with the next write, not with the one that makes room for it.
            Check.equal(Optional.of(0L), offset(admin, group, partition).lag(), "lag");
            admin.alterShareGroupOffsets(group, Map.of(partition, 45L)).all().get();
            Check.equal(45L, offset(admin, group, partition).startOffset(), "start offset");
            Check.equal(Optional.of(5L), offset(admin, group, partition).lag(), "lag");
            try (var consumer = consumer(bootstrap, group, "implicit", topic)) {
                Check.equal(45, number(some(consumer).get(0)), "the first record");
                committed(consumer);
            }
            Check.until("the group is empty",
                () -> admin.describeShareGroups(List.of(group)).all().get().get(group).groupState() == GroupState.EMPTY);
            admin.deleteShareGroupOffsets(group, Set.of(topic)).all().get();
            var left = admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec())).partitionsToOffsetInfo(group).get();
            Check.equal(Map.of(), left, "offsets");
            admin.deleteShareGroups(List.of(group)).all().get();
            Check.fails(GroupIdNotFoundException.class, () -> admin.describeShareGroups(List.of(group)).all().get(), "describe");
        }
    }

    private static SharePartitionOffsetInfo offset(Admin admin, String group, TopicPartition partition) throws Exception {
        var spec = new ListShareGroupOffsetsSpec().topicPartitions(List.of(partition));
        return admin.listShareGroupOffsets(Map.of(group, spec)).partitionsToOffsetInfo(group).get().get(partition);
    }
}
