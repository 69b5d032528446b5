import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;

/** Java's transactional producer and read_committed consumer. main: BOOTSTRAP CHECK.. */
public class TransactionChecks {
    public static void main(String[] args) throws Exception {
        Check.run(TransactionChecks.class, args);
    }

    private static KafkaProducer<byte[], byte[]> producer(String bootstrap, String id, Object... more) {
        List<Object> settings = new ArrayList<>(List.of("transactional.id", id));
        settings.addAll(List.of(more));
        return Check.producer(bootstrap, settings.toArray());
    }

    private static KafkaConsumer<byte[], byte[]> committed(String bootstrap, Object... more) {
        List<Object> settings = new ArrayList<>(List.of("isolation.level", "read_committed"));
        settings.addAll(List.of(more));
        return Check.consumer(bootstrap, settings.toArray());
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, int partition, String value) {
        return new ProducerRecord<>(topic, partition, null, value.getBytes(UTF_8));
    }

    /**
     * Ends a transaction when its records have been answered. A client of 4.3.1 by itself may send the end before them: its sender looks
     * for batches under way, waits for the lock of send() and commitTransaction(), and goes by what it saw. The coordinator then
     * knows of no transaction: INVALID_TXN_STATE, from Apache Kafka too (3 of 90,000 transactions on two cores).
     */
    private static void end(KafkaProducer<byte[], byte[]> producer, boolean commit) {
        producer.flush();
        if (commit)
            producer.commitTransaction();
        else
            producer.abortTransaction();
    }

    /** Reads every partition to the end that this consumer sees: values by partition, in their order. */
    private static Map<Integer, List<String>> read(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        List<TopicPartition> all = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
        consumer.assign(all);
        consumer.seekToBeginning(all);
        Map<TopicPartition, Long> ends = consumer.endOffsets(all);
        Map<Integer, List<String>> values = new TreeMap<>();
        all.forEach(p -> values.put(p.partition(), new ArrayList<>()));
        long limit = System.nanoTime() + Check.LIMIT.toNanos();
        while (all.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
            Check.isTrue(System.nanoTime() < limit, "the end of " + topic + " did not come");
            for (var r : consumer.poll(Duration.ofMillis(200)))
                values.get(r.partition()).add(new String(r.value(), UTF_8));
        }
        return values;
    }

    /** As a reader of committed records has it when nothing is undecided any more: an end is answered before its markers are written. */
    private static Map<Integer, List<String>> decided(String bootstrap, String topic) throws Exception {
        try (var stable = committed(bootstrap); var all = Check.consumer(bootstrap)) {
            List<TopicPartition> partitions = all.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
            Check.until("the end of every transaction", () -> stable.endOffsets(partitions).equals(all.endOffsets(partitions)));
            return read(stable, topic);
        }
    }

    private static Map<Integer, List<String>> read(String bootstrap, String topic, String level) {
        try (var consumer = Check.consumer(bootstrap, "isolation.level", level)) {
            return read(consumer, topic);
        }
    }

    static void committed_is_seen_and_aborted_is_not(String bootstrap) throws Exception {
        String topic = Check.unique("txn");
        Map<Integer, List<String>> expected = new TreeMap<>(), everything = new TreeMap<>();
        try (Admin admin = Check.admin(bootstrap); var producer = producer(bootstrap, topic)) {
            Check.create(admin, topic, 3);
            for (int p = 0; p < 3; p++) {
                expected.put(p, new ArrayList<>());
                everything.put(p, new ArrayList<>());
            }
            producer.initTransactions();
            for (int round = 0; round < 40; round++) {
                boolean commit = round % 3 != 1;
                producer.beginTransaction();
                for (int i = 0; i < 30; i++) {
                    int partition = (round + i) % (round % 5 == 0 ? 1 : 3);
                    String value = round + "/" + i;
                    producer.send(record(topic, partition, value));
                    everything.get(partition).add(value);
                    if (commit)
                        expected.get(partition).add(value);
                }
                end(producer, commit);
            }
        }
        Check.equal(expected, decided(bootstrap, topic), "what a reader of committed records sees");
        Check.equal(everything, read(bootstrap, topic, "read_uncommitted"), "what everybody else sees");
    }

    static void open_transaction_holds_readers_back(String bootstrap) throws Exception {
        String topic = Check.unique("txn-open");
        try (Admin admin = Check.admin(bootstrap); var producer = producer(bootstrap, topic); var plain = Check.producer(bootstrap)) {
            Check.create(admin, topic, 1);
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(record(topic, 0, "open")).get();
            plain.send(record(topic, 0, "plain")).get();
            Check.equal(List.of(), read(bootstrap, topic, "read_committed").get(0), "behind an open transaction nothing is seen");
            Check.equal(List.of("open", "plain"), read(bootstrap, topic, "read_uncommitted").get(0), "everything");
            TopicPartition partition = new TopicPartition(topic, 0);
            ListOffsetsOptions stable = new ListOffsetsOptions(IsolationLevel.READ_COMMITTED);
            Check.equal(0L, admin.listOffsets(Map.of(partition, OffsetSpec.latest()), stable).partitionResult(partition).get().offset(), "last stable offset");
            producer.commitTransaction();
            Check.until("the committed record", () -> read(bootstrap, topic, "read_committed").get(0).equals(List.of("open", "plain")));
        }
    }

    static void new_producer_fences_the_old_one(String bootstrap) throws Exception {
        String topic = Check.unique("txn-fence");
        try (Admin admin = Check.admin(bootstrap); var old = producer(bootstrap, topic); var young = producer(bootstrap, topic)) {
            Check.create(admin, topic, 2);
            old.initTransactions();
            old.beginTransaction();
            old.send(record(topic, 0, "lost")).get();
            young.initTransactions();
            Check.fails(KafkaException.class, () -> {
                old.send(record(topic, 1, "lost too")).get();
                old.commitTransaction();
            }, "a fenced producer");
            young.beginTransaction();
            young.send(record(topic, 0, "kept"));
            end(young, true);
            Check.fails(KafkaException.class, () -> {
                old.beginTransaction();
                old.send(record(topic, 0, "still lost")).get();
                old.commitTransaction();
            }, "a fenced producer, again");
        }
        Check.equal(Map.of(0, List.of("kept"), 1, List.of()), decided(bootstrap, topic), "records of the new producer");
    }

    static void slow_transaction_is_aborted(String bootstrap) throws Exception {
        String topic = Check.unique("txn-slow");
        try (Admin admin = Check.admin(bootstrap); var slow = producer(bootstrap, topic, "transaction.timeout.ms", 1000); var plain = Check.producer(bootstrap)) {
            Check.create(admin, topic, 1);
            slow.initTransactions();
            slow.beginTransaction();
            slow.send(record(topic, 0, "late")).get();
            plain.send(record(topic, 0, "plain")).get();
            Check.until("the abort", () -> read(bootstrap, topic, "read_committed").get(0).equals(List.of("plain")));
            Check.fails(KafkaException.class, slow::commitTransaction, "a commit after the abort");
        }
        Check.equal(List.of("plain"), read(bootstrap, topic, "read_committed").get(0), "it stays aborted");
        Check.fails(KafkaException.class, () -> {
            try (var greedy = producer(bootstrap, topic, "transaction.timeout.ms", 1000 * 60 * 16)) {
                greedy.initTransactions();
            }
        }, "a timeout above the broker's");
    }

    static void offsets_count_with_their_transaction(String bootstrap) throws Exception {
        String topic = Check.unique("txn-offsets");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Admin admin = Check.admin(bootstrap); var producer = producer(bootstrap, topic); var consumer = Check.consumer(bootstrap, "group.id", topic)) {
            Check.create(admin, topic, 1);
            producer.initTransactions();
            ConsumerGroupMetadata group = new ConsumerGroupMetadata(topic);
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(5, "note")), group);
            producer.commitTransaction();
            Check.equal(5L, consumer.committed(Set.of(partition)).get(partition).offset(), "a committed offset");
            Check.equal("note", consumer.committed(Set.of(partition)).get(partition).metadata(), "its note");
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(9)), group);
            var unstable = new ListConsumerGroupOffsetsOptions().requireStable(false);
            Check.equal(5L, admin.listConsumerGroupOffsets(topic, unstable).partitionsToOffsetAndMetadata().get().get(partition).offset(), "before the end");
            Check.fails(org.apache.kafka.common.errors.TimeoutException.class, () -> consumer.committed(Set.of(partition), Duration.ofMillis(500)), "an offset that may yet change");
            producer.abortTransaction();
            Check.equal(5L, consumer.committed(Set.of(partition)).get(partition).offset(), "an aborted offset");
        }
    }

    /** Reads one topic, writes another, with aborts and members that come and go in between. */
    static void every_record_is_transformed_once(String bootstrap) throws Exception {
        String in = Check.unique("txn-in"), out = in + "-out";
        int n = 600;
        List<String> expected = new ArrayList<>();
        try (Admin admin = Check.admin(bootstrap); var producer = Check.producer(bootstrap)) {
            Check.create(admin, in, 4);
            Check.create(admin, out, 3);
            for (int i = 0; i < n; i++) {
                producer.send(record(in, i % 4, "" + i));
                expected.add("done " + i);
            }
        }
        int done = 0, turn = 0;
        while (done < n) {
            String id = in + "-" + turn % 2;
            try (var consumer = committed(bootstrap, "group.id", in, "max.poll.records", 37, "session.timeout.ms", 30000);
                 var producer = producer(bootstrap, id)) {
                producer.initTransactions();
                consumer.subscribe(List.of(in));
                long limit = System.nanoTime() + Check.LIMIT.toNanos();
                for (int round = 0; round < 6 && done < n; ) {
                    Check.isTrue(System.nanoTime() < limit, "only " + done + " records came");
                    var records = consumer.poll(Duration.ofMillis(200));
                    if (records.isEmpty())
                        continue;
                    round++;
                    producer.beginTransaction();
                    for (var r : records) {
                        String value = new String(r.value(), UTF_8);
                        producer.send(record(out, Integer.parseInt(value) % 3, "done " + value));
                    }
                    Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                    for (TopicPartition p : records.partitions())
                        offsets.put(p, new OffsetAndMetadata(consumer.position(p)));
                    producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                    boolean commit = (turn + round) % 4 != 0;
                    end(producer, commit);
                    if (!commit)
                        break; // what was read is read again by the next
                    done += records.count();
                }
            }
            turn++;
        }
        List<String> found = new ArrayList<>();
        decided(bootstrap, out).values().forEach(found::addAll);
        Collections.sort(expected);
        Collections.sort(found);
        Check.equal(expected, found, "what came out");
    }

    static void many_producers_in_many_partitions(String bootstrap) throws Exception {
        String topic = Check.unique("txn-many");
        int producers = 6, rounds = 15, partitions = 12;
        try (Admin admin = Check.admin(bootstrap)) {
            Check.create(admin, topic, partitions);
        }
        ExecutorService threads = Executors.newFixedThreadPool(producers);
        List<Future<List<String>>> results = new ArrayList<>();
        for (int n = 0; n < producers; n++) {
            int number = n;
            results.add(threads.submit(() -> {
                List<String> kept = new ArrayList<>();
                try (var producer = producer(bootstrap, topic + "-" + number)) {
                    producer.initTransactions();
                    for (int round = 0; round < rounds; round++) {
                        producer.beginTransaction();
                        List<String> values = new ArrayList<>();
                        for (int p = 0; p < partitions; p++) {
                            String value = number + "/" + round + "/" + p;
                            producer.send(record(topic, p, value));
                            values.add(value);
                        }
                        boolean commit = (round + number) % 3 != 0;
                        end(producer, commit);
                        if (commit)
                            kept.addAll(values);
                    }
                }
                return kept;
            }));
        }
        List<String> expected = new ArrayList<>(), found = new ArrayList<>();
        for (var result : results)
            expected.addAll(result.get());
        threads.shutdown();
        decided(bootstrap, topic).values().forEach(found::addAll);
        Collections.sort(expected);
        Collections.sort(found);
        Check.equal(expected, found, "records of all producers");
    }

    static void transactions_are_described_and_listed(String bootstrap) throws Exception {
        String topic = Check.unique("txn-admin");
        try (Admin admin = Check.admin(bootstrap); var producer = producer(bootstrap, topic, "transaction.timeout.ms", 54321)) {
            Check.create(admin, topic, 2);
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(record(topic, 1, "open")).get();
            var described = admin.describeTransactions(List.of(topic)).description(topic).get();
            Check.equal(TransactionState.ONGOING, described.state(), "state");
            Check.equal(Set.of(new TopicPartition(topic, 1)), described.topicPartitions(), "partitions");
            Check.equal(54321L, described.transactionTimeoutMs(), "timeout");
            Check.isTrue(described.transactionStartTimeMs().isPresent(), "a start");
            var mine = new ListTransactionsOptions().filterProducerIds(Set.of(described.producerId()));
            Check.equal(List.of(topic), admin.listTransactions(mine).all().get().stream().map(TransactionListing::transactionalId).toList(), "by producer");
            var ongoing = new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING)).filterOnTransactionalIdPattern("txn-admin.*");
            Check.isTrue(admin.listTransactions(ongoing).all().get().stream().anyMatch(t -> t.transactionalId().equals(topic)), "by state and pattern");
            var other = new ListTransactionsOptions().filterOnTransactionalIdPattern("n-admin");
            Check.equal(0, admin.listTransactions(other).all().get().size(), "a pattern that matches a part only");
            var old = new ListTransactionsOptions().filterOnDuration(3600000);
            Check.isTrue(admin.listTransactions(old).all().get().stream().noneMatch(t -> t.transactionalId().equals(topic)), "by age");
            producer.commitTransaction();
            Check.until("the end", () -> admin.describeTransactions(List.of(topic)).description(topic).get().state() == TransactionState.COMPLETE_COMMIT);
            Check.fails(TransactionalIdNotFoundException.class, () -> admin.describeTransactions(List.of("nobody")).description("nobody").get(), "an id that is not there");
        }
    }
}
