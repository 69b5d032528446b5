import static java.nio.charset.StandardCharsets.UTF_8;

import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.kstream.*;

/**
 * A Kafka Streams application that counts words, exactly once: a source, a repartition topic, a store with its changelog and a sink,
 * on instances that come and go. main: BOOTSTRAP PROTOCOL TOPIC FOLDER [VIEW..]; the topics of input and output are TOPIC-in and
 * TOPIC-out. With a VIEW kafka-streams-groups describes the group so in the end, while it has members.
 */
public class StreamsChecks {
    private static final int LINES = 3000, WORDS = 40;

    public static void main(String[] args) throws Exception {
        new StreamsChecks(args[0], args[1], args[2], Path.of(args[3])).run(Arrays.copyOfRange(args, 4, args.length));
        System.out.println("ok " + args[2]);
    }

    private final String bootstrap, protocol, name, in, out;
    private final Path folder;
    private final Queue<Throwable> failures = new ConcurrentLinkedQueue<>();
    private final Map<String, Integer> expected = new TreeMap<>();

    private StreamsChecks(String bootstrap, String protocol, String name, Path folder) {
        this.bootstrap = bootstrap;
        this.protocol = protocol;
        this.name = name;
        this.folder = folder;
        in = name + "-in";
        out = name + "-out";
    }

    private static Topology topology(String in, String out) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(in, Consumed.with(Serdes.ByteArray(), Serdes.String()))
            .flatMapValues(line -> List.of(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with("words", Serdes.String(), Serdes.String()))
            .count(Materialized.as("counts"))
            .toStream()
            .to(out, Produced.with(Serdes.String(), Serdes.Long()));
        return builder.build();
    }

    private KafkaStreams instance(int number) {
        Properties config = new Properties();
        config.putAll(Check.config(bootstrap, "application.id", name, "group.protocol", protocol, "client.id", name + "-" + number,
            "state.dir", folder.resolve("state-" + number).toString(), "processing.guarantee", "exactly_once_v2",
            "num.stream.threads", 2, "commit.interval.ms", 100, "statestore.cache.max.bytes", 0,
            "consumer.auto.offset.reset", "earliest", "max.poll.records", 200));
        if (protocol.equals("classic"))
            config.put("main.consumer.session.timeout.ms", 6000);
        KafkaStreams streams = new KafkaStreams(topology(in, out), config);
        streams.setUncaughtExceptionHandler(thrown -> {
            failures.add(thrown);
            return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        streams.start();
        return streams;
    }

    private static void leave(KafkaStreams streams) {
        streams.close(CloseOptions.timeout(Check.LIMIT).withGroupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP));
    }

    private void run(String[] view) throws Exception {
        try (Admin admin = Check.admin(bootstrap)) {
            Check.create(admin, in, 4);
            Check.create(admin, out, 3);
        }
        List<KafkaStreams> running = new ArrayList<>();
        try {
            running.add(instance(0));
            produce(0, LINES / 3);
            until("the first third", LINES / 12);
            running.add(instance(1));
            produce(LINES / 3, LINES * 2 / 3);
            until("half", LINES / 2);
            Check.until("both to run", () -> running.stream().allMatch(s -> s.state() == KafkaStreams.State.RUNNING));
            leave(running.remove(0));
            produce(LINES * 2 / 3, LINES);
            running.add(instance(2));
            until("everything", expected.values().stream().mapToInt(n -> n).sum());
            describe();
            // the tool ends the call
            if (view.length > 0)
                org.apache.kafka.tools.streams.StreamsGroupCommand.main(Stream.concat(Stream.of("--bootstrap-server", bootstrap, "--describe", "--group", name), Arrays.stream(view)).toArray(String[]::new));
        } finally {
            running.forEach(StreamsChecks::leave);
        }
        // every word's counts went out once and in order
        Map<String, List<Long>> counts = read();
        Map<String, List<Long>> ideal = new TreeMap<>();
        expected.forEach((word, n) -> ideal.put(word, LongStream.rangeClosed(1, n).boxed().toList()));
        Check.equal(ideal, counts, "counts");
        List<Throwable> unexpected = failures.stream().filter(f -> !isOfTheKill(f)).toList();
        if (!unexpected.isEmpty())
            throw new AssertionError("a thread ended", unexpected.get(0));
    }

    /** What a thread may end with when the broker is killed under it. */
    private static boolean isOfTheKill(Throwable thrown) {
        for (Throwable cause = thrown; cause != null; cause = cause.getCause())
            if (cause instanceof org.apache.kafka.common.errors.TimeoutException)
                return true;
        return false;
    }

    /** The tools' view of the group. */
    private void describe() throws Exception {
        try (Admin admin = Check.admin(bootstrap)) {
            if (!protocol.equals("streams"))
                return;
            Check.isTrue(admin.listGroups(ListGroupsOptions.forStreamsGroups()).all().get().stream().anyMatch(g -> g.groupId().equals(name)), "listed");
            // the last instance may still come in, and the others give it its share
            Check.until("both instances to share the tasks", () -> {
                StreamsGroupDescription group = described(admin);
                return group.groupState() == GroupState.STABLE && group.members().size() == 4;
            });
            StreamsGroupDescription group = described(admin);
            Check.equal(2, group.subtopologies().size(), "subtopologies");
            int tasks = group.members().stream().flatMap(m -> m.assignment().activeTasks().stream()).mapToInt(t -> t.partitions().size()).sum();
            Check.equal(8, tasks, "active tasks");
        }
    }

    private StreamsGroupDescription described(Admin admin) throws Exception {
        return admin.describeStreamsGroups(List.of(name)).all().get().get(name);
    }

    private void produce(int from, int to) {
        try (var producer = Check.producer(bootstrap, "delivery.timeout.ms", 60000, "linger.ms", 5)) {
            Random random = new Random(from);
            for (int i = from; i < to; i++) {
                List<String> words = new ArrayList<>();
                for (int n = 0; n < 1 + random.nextInt(4); n++)
                    words.add("word-" + random.nextInt(WORDS));
                words.forEach(word -> expected.merge(word, 1, Integer::sum));
                producer.send(new ProducerRecord<>(in, i % 4, null, String.join(" ", words).getBytes(UTF_8)), (m, e) -> {
                    if (e != null)
                        failures.add(e);
                });
            }
        }
    }

    private void until(String what, int records) throws Exception {
        long end = System.nanoTime() + Check.LIMIT.toNanos();
        for (int found = 0; found < records; found = read().values().stream().mapToInt(List::size).sum()) {
            if (System.nanoTime() > end)
                throw new AssertionError("waited for " + what + ": " + found + " of " + records + ", " + failures);
            Thread.sleep(100);
        }
    }

    /** The committed counts of each word. */
    private Map<String, List<Long>> read() {
        Map<String, List<Long>> counts = new TreeMap<>();
        try (var consumer = Check.consumer(bootstrap, "isolation.level", "read_committed")) {
            List<TopicPartition> all = IntStream.range(0, 3).mapToObj(p -> new TopicPartition(out, p)).toList();
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            long limit = System.nanoTime() + Check.LIMIT.toNanos();
            while (all.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                Check.isTrue(System.nanoTime() < limit, "the end of " + out + " did not come");
                for (var r : consumer.poll(Duration.ofMillis(100)))
                    counts.computeIfAbsent(new String(r.key(), UTF_8), k -> new ArrayList<>()).add(Serdes.Long().deserializer().deserialize(out, r.value()));
            }
        }
        return counts;
    }
}
