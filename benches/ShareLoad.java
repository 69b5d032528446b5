import java.nio.ByteBuffer;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

/**
 * Loads a broker with a share group, and prints one JSON line: how fast the group empties topics that are full, and how long a record
 * takes from its producer to its consumer at an even rate. Server CPU is that of the process between the first record and the last.
 * Arguments: bootstrap, pid of the server, records, bytes of each, consumers, records a second, seconds.
 */
public class ShareLoad {
    static final int PARTITIONS = 8;
    static String bootstrap;

    public static void main(String[] a) throws Exception {
        bootstrap = a[0];
        long pid = Long.parseLong(a[1]);
        int records = Integer.parseInt(a[2]), size = Integer.parseInt(a[3]), consumers = Integer.parseInt(a[4]);
        int rate = Integer.parseInt(a[5]), seconds = Integer.parseInt(a[6]);
        String run = Long.toString(System.currentTimeMillis(), 36);
        String full = "full-" + run, even = "even-" + run;
        prepare(List.of(full, even));
        fill(full, records, size);
        // records a second, CPU seconds per million records
        double[] emptied = empty(pid, full, records, consumers);
        // microseconds, CPU seconds per million records
        double[] latency = evenly(pid, even, size, consumers, rate, seconds);
        System.out.printf(Locale.ROOT,
            "{\"records_s\": %.0f, \"cpu\": %.3f, \"p50_us\": %.0f, \"p99_us\": %.0f, \"even_cpu\": %.3f}%n",
            emptied[0], emptied[1], latency[0], latency[1], latency[2]);
        System.exit(0);
    }

    /** Topics, and a share group of the name of each that begins at the first record. */
    static void prepare(List<String> names) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(names.stream().map(n -> new NewTopic(n, PARTITIONS, (short) 1)).toList()).all().get();
            Map<ConfigResource, Collection<AlterConfigOp>> configs = new HashMap<>();
            for (String name : names) {
                ConfigEntry earliest = new ConfigEntry("share.auto.offset.reset", "earliest");
                configs.put(new ConfigResource(ConfigResource.Type.GROUP, name),
                    List.of(new AlterConfigOp(earliest, AlterConfigOp.OpType.SET)));
            }
            admin.incrementalAlterConfigs(configs).all().get();
        }
    }

    static KafkaProducer<byte[], byte[]> producer(int linger) {
        Map<String, Object> configs = Map.of("bootstrap.servers", bootstrap, "linger.ms", linger, "batch.size", 65536);
        return new KafkaProducer<>(configs, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static void fill(String topic, int records, int size) {
        try (var producer = producer(5)) {
            for (int i = 0; i < records; i++)
                producer.send(new ProducerRecord<>(topic, i % PARTITIONS, null, new byte[size]));
        }
    }

    /** Polls until told to stop; what was polled is acknowledged by the next poll. */
    static void consume(String topic, AtomicBoolean stop, java.util.function.Consumer<ConsumerRecords<byte[], byte[]>> each) {
        Map<String, Object> configs = Map.of("bootstrap.servers", bootstrap, "group.id", topic);
        try (var consumer = new KafkaShareConsumer<>(configs, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (!stop.get())
                each.accept(consumer.poll(Duration.ofMillis(100)));
            consumer.commitSync(Duration.ofSeconds(10));
        }
    }

    static ExecutorService start(int consumers, Runnable each) {
        ExecutorService threads = Executors.newFixedThreadPool(consumers);
        for (int i = 0; i < consumers; i++)
            threads.submit(() -> {
                try {
                    each.run();
                } catch (Throwable failure) {
                    failure.printStackTrace();
                    System.exit(1);
                }
            });
        threads.shutdown();
        return threads;
    }

    /** A group that has just begun finds its partitions one after the other: the first tenth is not counted. */
    static double[] empty(long pid, String topic, int records, int consumers) throws Exception {
        AtomicBoolean stop = new AtomicBoolean();
        AtomicLong read = new AtomicLong();
        long[] begin = new long[3], end = new long[2];
        CountDownLatch ended = new CountDownLatch(1);
        ExecutorService threads = start(consumers, () -> consume(topic, stop, polled -> {
            long before = read.getAndAdd(polled.count()), now = before + polled.count();
            if (before < records / 10 && now >= records / 10) {
                begin[0] = System.nanoTime();
                begin[1] = cpu(pid);
                begin[2] = now;
            }
            if (before < records && now >= records) {
                end[0] = System.nanoTime();
                end[1] = cpu(pid);
                ended.countDown();
            }
        }));
        if (!ended.await(300, TimeUnit.SECONDS))
            throw new IllegalStateException("only " + read + " of " + records);
        stop.set(true);
        threads.awaitTermination(60, TimeUnit.SECONDS);
        double counted = records - begin[2];
        return new double[] {counted / ((end[0] - begin[0]) / 1e9), (end[1] - begin[1]) / 100.0 / (counted / 1e6)};
    }

    static double[] evenly(long pid, String topic, int size, int consumers, int rate, int seconds) throws Exception {
        AtomicBoolean stop = new AtomicBoolean(), measured = new AtomicBoolean();
        ConcurrentLinkedQueue<Long> waited = new ConcurrentLinkedQueue<>();
        AtomicLong read = new AtomicLong();
        ExecutorService threads = start(consumers, () -> consume(topic, stop, polled -> {
            long now = System.nanoTime();
            read.addAndGet(polled.count());
            for (var record : polled) {
                long sent = ByteBuffer.wrap(record.value()).getLong();
                if (sent != 0)
                    waited.add((now - sent) / 1000);
            }
        }));
        long sent = 0, cpu = 0, from = 0;
        try (var producer = producer(0)) {
            // The group has its partitions once something of each has come back.
            for (int i = 0; i < PARTITIONS; i++)
                producer.send(new ProducerRecord<>(topic, i, null, new byte[size]));
            for (long limit = System.nanoTime() + 60_000_000_000L; read.get() < PARTITIONS; Thread.sleep(10))
                if (System.nanoTime() > limit)
                    throw new IllegalStateException("nothing comes back");
            long begin = System.nanoTime();
            int warm = rate * 3, all = rate * (seconds + 3);
            for (int i = 0; i < all; i++) {
                long due = begin + i * 1_000_000_000L / rate;
                while (System.nanoTime() < due)
                    Thread.sleep(1);
                if (i == warm) {
                    cpu = cpu(pid);
                    from = i;
                }
                byte[] value = new byte[size];
                // From when it was due: a producer that lags behind must not hide it.
                ByteBuffer.wrap(value).putLong(i < warm ? 0 : due);
                producer.send(new ProducerRecord<>(topic, i % PARTITIONS, null, value));
            }
            sent = all;
        }
        double spent = (cpu(pid) - cpu) / 100.0 / ((sent - from) / 1e6);
        for (long limit = System.nanoTime() + 30_000_000_000L; waited.size() < sent - from && System.nanoTime() < limit;)
            Thread.sleep(50);
        stop.set(true);
        threads.awaitTermination(60, TimeUnit.SECONDS);
        if (waited.size() < sent - from)
            throw new IllegalStateException("only " + waited.size() + " of " + (sent - from) + " came back");
        long[] sorted = waited.stream().mapToLong(Long::longValue).sorted().toArray();
        return new double[] {sorted[sorted.length / 2], sorted[(int) (sorted.length * 0.99)], spent};
    }

    /** Ticks of a process, of 10 ms. */
    static long cpu(long pid) {
        try {
            String stat = Files.readString(Path.of("/proc/" + pid + "/stat"));
            String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
            return Long.parseLong(fields[11]) + Long.parseLong(fields[12]);
        } catch (java.io.IOException gone) {
            throw new IllegalStateException(gone);
        }
    }
}
