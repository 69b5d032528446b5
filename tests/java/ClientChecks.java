import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.*;
import org.apache.kafka.common.header.internals.*;

/** Java's producer and consumer. main: BOOTSTRAP CHECK.. */
public class ClientChecks {
    public static void main(String[] args) throws Exception {
        Check.run(ClientChecks.class, args);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    private static byte[] value(int i) {
        byte[] value = bytes("value " + i + " ");
        return i % 3 == 0 ? Arrays.copyOf(value, value.length + i % 700) : value;
    }

    /** Sends n keyed records, reads them back from the start, compares all of each. */
    private static void roundTrip(String bootstrap, String topic, int n, Object... settings) throws Exception {
        Map<String, Integer> numbers = new HashMap<>();
        try (var producer = Check.producer(bootstrap, settings)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < n; i++) {
                List<Header> headers = List.of(new RecordHeader("n", bytes("" + i)), new RecordHeader("null", null));
                sent.add(producer.send(new ProducerRecord<>(topic, null, 1700000000000L + i, bytes("key-" + i % 101), value(i), headers)));
            }
            for (int i = 0; i < n; i++) {
                RecordMetadata m = sent.get(i).get();
                Check.equal(null, numbers.put(m.partition() + "/" + m.offset(), i), "two records at one place");
            }
        }
        read(bootstrap, topic, n, numbers);
    }

    private static void read(String bootstrap, String topic, int n, Map<String, Integer> numbers) {
        try (var consumer = Check.consumer(bootstrap)) {
            List<TopicPartition> all = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<Integer, Long> next = new HashMap<>();
            Map<String, Integer> last = new HashMap<>();
            long end = System.nanoTime() + Check.LIMIT.toNanos();
            for (int got = 0; got < n; ) {
                Check.isTrue(System.nanoTime() < end, "only " + got + " of " + n + " records came");
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofSeconds(1))) {
                    got++;
                    Check.equal(next.getOrDefault(r.partition(), 0L), r.offset(), "offset in partition " + r.partition());
                    next.put(r.partition(), r.offset() + 1);
                    int i = numbers.get(r.partition() + "/" + r.offset());
                    String key = "key-" + i % 101;
                    Check.equal(key, new String(r.key(), UTF_8), "key of record " + i);
                    Check.isTrue(Arrays.equals(value(i), r.value()), "value of record " + i);
                    Check.equal(1700000000000L + i, r.timestamp(), "timestamp of record " + i);
                    Check.equal("" + i, new String(r.headers().lastHeader("n").value(), UTF_8), "header of record " + i);
                    Check.equal(null, r.headers().lastHeader("null").value(), "null header of record " + i);
                    Check.isTrue(r.leaderEpoch().isPresent(), "a leader epoch");
                    Integer before = last.put(key, i);
                    Check.isTrue(before == null || before < i, "record " + i + " came after " + before);
                }
            }
        }
    }

    static void every_codec_round_trips(String bootstrap) throws Exception {
        try (Admin admin = Check.admin(bootstrap)) {
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                String topic = Check.unique("java-" + codec);
                Check.create(admin, topic, 16);
                roundTrip(bootstrap, topic, 3000, "compression.type", codec, "linger.ms", 3);
            }
        }
    }

    /** An empty value, one record, and a batch just below max.message.bytes; each codec by each compression.type of the topic. */
    static void small_and_large_batches_of_every_codec(String bootstrap) throws Exception {
        Random random = new Random(1);
        List<byte[]> values = new ArrayList<>(List.of(new byte[0], bytes("one")));
        for (int n = 0; n < 149; n++) {
            byte[] value = new byte[7000];
            for (int at = 0; at < value.length; at++)
                value[at] = (byte) (at / 1000 % 2 == 0 ? 'a' + n % 20 : random.nextInt());
            values.add(value);
        }
        try (Admin admin = Check.admin(bootstrap)) {
            for (String target : List.of("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd")) {
                String topic = Check.unique("java-codecs");
                admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(Map.of("compression.type", target)))).all().get();
                Check.leaders(admin, topic, 1);
                int sent = 0;
                for (String source : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                    try (var producer = Check.producer(bootstrap, "compression.type", source, "linger.ms", 1000, "batch.size", 1048500,
                            "max.request.size", 1048588)) {
                        for (byte[] value : values) {
                            producer.send(new ProducerRecord<>(topic, value));
                            if (++sent % values.size() <= 2 && sent % values.size() != 0)
                                producer.flush(); // the small ones are batches of their own
                        }
                        producer.flush();
                    }
                }
                try (var consumer = Check.consumer(bootstrap, "check.crcs", true)) {
                    TopicPartition all = new TopicPartition(topic, 0);
                    consumer.assign(List.of(all));
                    consumer.seekToBeginning(List.of(all));
                    long end = System.nanoTime() + Check.LIMIT.toNanos();
                    for (int got = 0; got < sent; ) {
                        Check.isTrue(System.nanoTime() < end, "only " + got + " of " + sent + " records came");
                        for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofSeconds(1))) {
                            Check.equal((long) got, r.offset(), "offset");
                            Check.isTrue(Arrays.equals(values.get(got % values.size()), r.value()), "record " + got + " to " + target);
                            got++;
                        }
                    }
                }
            }
        }
    }

    static void acks_and_idempotence_round_trip(String bootstrap) throws Exception {
        try (Admin admin = Check.admin(bootstrap)) {
            String[][] settings = {{"all", "true"}, {"all", "false"}, {"1", "false"}};
            for (String[] s : settings) {
                String topic = Check.unique("java-acks");
                Check.create(admin, topic, 4);
                roundTrip(bootstrap, topic, 2000, "acks", s[0], "enable.idempotence", s[1], "batch.size", 2000);
            }
        }
    }

    static void too_large_record_is_refused(String bootstrap) throws Exception {
        try (Admin admin = Check.admin(bootstrap); var producer = Check.producer(bootstrap, "max.request.size", 20000000, "linger.ms", 0)) {
            String topic = Check.unique("java-large");
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(Map.of("max.message.bytes", "5000000")))).all().get();
            byte[] big = new byte[4900000], bigger = new byte[5100000];
            Check.equal(0L, producer.send(new ProducerRecord<>(topic, big)).get().offset(), "a record below the limit");
            Check.fails(RecordTooLargeException.class, () -> producer.send(new ProducerRecord<>(topic, bigger)).get(), "above it");
            Check.equal(1L, producer.send(new ProducerRecord<>(topic, bytes("small"))).get().offset(), "the next one");
        }
    }

    static void invalid_records_are_refused_one_by_one(String bootstrap) throws Exception {
        try (Admin admin = Check.admin(bootstrap); var producer = Check.producer(bootstrap, "linger.ms", 5000)) {
            String topic = Check.unique("java-window");
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(Map.of("message.timestamp.before.max.ms", "60000")))).all().get();
            Check.leaders(admin, topic, 1);
            var good = producer.send(new ProducerRecord<>(topic, bytes("k"), bytes("v")));
            var bad = producer.send(new ProducerRecord<>(topic, 0, 1700000000000L, bytes("k"), bytes("years old")));
            producer.flush(); // both in one batch
            Check.fails(InvalidTimestampException.class, bad::get, "a record outside the window");
            Check.fails(KafkaException.class, good::get, "another record of the same batch");
            var next = producer.send(new ProducerRecord<>(topic, bytes("k"), bytes("v")));
            producer.flush();
            Check.equal(0L, next.get().offset(), "a good one after it");
        }
    }

    private static Set<Integer> owned(KafkaConsumer<?, ?> consumer) {
        Set<Integer> out = new TreeSet<>();
        consumer.assignment().forEach(p -> out.add(p.partition()));
        return out;
    }

    static boolean atEnd(KafkaConsumer<?, ?> consumer) {
        return consumer.endOffsets(consumer.assignment()).entrySet().stream().allMatch(e -> consumer.position(e.getKey()) == e.getValue());
    }

    static void classic_group_rebalances_commits_and_resumes(String bootstrap) throws Exception {
        String topic = Check.unique("java-group"), group = Check.unique("group");
        try (Admin admin = Check.admin(bootstrap); var producer = Check.producer(bootstrap)) {
            Check.create(admin, topic, 6);
            for (int i = 0; i < 600; i++)
                producer.send(new ProducerRecord<>(topic, bytes("key-" + i), bytes("" + i)));
            producer.flush();
        }
        Object[] member = {"group.id", group, "session.timeout.ms", 30000, "heartbeat.interval.ms", 200, "max.poll.records", 50};
        Set<String> seen = new HashSet<>();
        try (var a = Check.consumer(bootstrap, member); var b = Check.consumer(bootstrap, member)) {
            a.subscribe(List.of(topic));
            Check.until("all six at the first member", () -> {
                a.poll(Duration.ofMillis(50)).forEach(r -> seen.add(r.partition() + "/" + r.offset()));
                return owned(a).size() == 6;
            });
            b.subscribe(List.of(topic));
            Check.until("three each", () -> {
                a.poll(Duration.ofMillis(50)).forEach(r -> seen.add(r.partition() + "/" + r.offset()));
                b.poll(Duration.ofMillis(50)).forEach(r -> seen.add(r.partition() + "/" + r.offset()));
                return owned(a).size() == 3 && owned(b).size() == 3;
            });
            // What the first member had read of the second one's partitions was not committed: the second one reads it again.
            Check.until("all records, by those who own their partitions now", () -> {
                a.poll(Duration.ofMillis(50)).forEach(r -> seen.add(r.partition() + "/" + r.offset()));
                b.poll(Duration.ofMillis(50)).forEach(r -> seen.add(r.partition() + "/" + r.offset()));
                return seen.size() == 600 && atEnd(a) && atEnd(b);
            });
            a.commitSync();
            b.commitSync();
            b.unsubscribe();
            Check.until("all six back", () -> {
                var records = a.poll(Duration.ofMillis(50));
                Check.equal(0, records.count(), "records read again after a commit");
                return owned(a).size() == 6;
            });
        }
        try (var again = Check.consumer(bootstrap, member); var producer = Check.producer(bootstrap)) {
            again.subscribe(List.of(topic));
            Check.until("the assignment", () -> {
                Check.equal(0, again.poll(Duration.ofMillis(50)).count(), "records read again by a new member");
                return owned(again).size() == 6;
            });
            RecordMetadata fresh = producer.send(new ProducerRecord<>(topic, bytes("new"))).get();
            Check.until("the new record", () -> {
                for (var r : again.poll(Duration.ofMillis(200))) {
                    Check.equal(fresh.partition() + "/" + fresh.offset(), r.partition() + "/" + r.offset(), "the only new record");
                    return true;
                }
                return false;
            });
            var committed = again.committed(Set.of(new TopicPartition(topic, 0)));
            Check.isTrue(committed.get(new TopicPartition(topic, 0)).offset() > 0, "an offset is committed");
        }
    }

    static void offsets_by_time_and_position(String bootstrap) throws Exception {
        String topic = Check.unique("java-offsets");
        try (Admin admin = Check.admin(bootstrap); var producer = Check.producer(bootstrap); var consumer = Check.consumer(bootstrap)) {
            Check.create(admin, topic, 1);
            for (int i = 0; i < 100; i++)
                producer.send(new ProducerRecord<>(topic, 0, 1700000000000L + i * 1000, bytes("k"), bytes("" + i))).get();
            TopicPartition p = new TopicPartition(topic, 0);
            Check.equal(0L, consumer.beginningOffsets(List.of(p)).get(p), "beginning");
            Check.equal(100L, consumer.endOffsets(List.of(p)).get(p), "end");
            OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(p, 1700000041500L)).get(p);
            Check.equal(42L, found.offset(), "offset for a time");
            Check.equal(1700000042000L, found.timestamp(), "its timestamp");
            Check.equal(null, consumer.offsetsForTimes(Map.of(p, 1800000000000L)).get(p), "a time beyond the end");
            consumer.assign(List.of(p));
            consumer.seek(p, 97);
            List<String> read = new ArrayList<>();
            Check.until("the last three", () -> {
                consumer.poll(Duration.ofMillis(100)).forEach(r -> read.add(new String(r.value(), UTF_8)));
                return read.size() >= 3;
            });
            Check.equal(List.of("97", "98", "99"), read, "the records from 97 on");
        }
        try (var strict = Check.consumer(bootstrap, "auto.offset.reset", "none")) {
            TopicPartition p = new TopicPartition(topic, 0);
            strict.assign(List.of(p));
            strict.seek(p, 5000);
            Check.fails(org.apache.kafka.clients.consumer.OffsetOutOfRangeException.class, () -> {
                for (int i = 0; i < 600; i++)
                    strict.poll(Duration.ofMillis(100));
            }, "an offset beyond the end");
        }
    }

    static void topic_created_again_is_noticed_by_its_id(String bootstrap) throws Exception {
        String topic = Check.unique("java-again");
        try (Admin admin = Check.admin(bootstrap)) {
            Check.create(admin, topic, 2);
            Uuid first = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
            // One that stays asks for the topic again and again, by which it comes back by itself.
            try (var producer = Check.producer(bootstrap)) {
                producer.send(new ProducerRecord<>(topic, 0, bytes("k"), bytes("old"))).get();
            }
            admin.deleteTopics(List.of(topic)).all().get();
            Check.until("the topic to go", () -> !admin.listTopics().names().get().contains(topic));
            Check.create(admin, topic, 2);
            Uuid second = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
            Check.isTrue(!first.equals(second) && !second.equals(Uuid.ZERO_UUID), "a new topic id");
        }
        try (var producer = Check.producer(bootstrap); var consumer = Check.consumer(bootstrap)) {
            Check.equal(0L, producer.send(new ProducerRecord<>(topic, 0, bytes("k"), bytes("new"))).get().offset(), "first offset");
            TopicPartition p = new TopicPartition(topic, 0);
            consumer.assign(List.of(p));
            List<String> read = new ArrayList<>();
            Check.until("the new record", () -> {
                consumer.poll(Duration.ofMillis(100)).forEach(r -> read.add(new String(r.value(), UTF_8)));
                return !read.isEmpty();
            });
            Check.equal(List.of("new"), read, "only the new topic's record");
        }
    }
}
