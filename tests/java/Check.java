import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;

/** What the checks share: clients with the settings of a test, waiting, comparing. */
final class Check {
    static final Duration LIMIT = Duration.ofSeconds(60);

    private Check() { }

    static Map<String, Object> config(String bootstrap, Object... more) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < more.length; i += 2)
            config.put((String) more[i], more[i + 1]);
        return config;
    }

    static Admin admin(String bootstrap) {
        return Admin.create(config(bootstrap, "default.api.timeout.ms", 60000));
    }

    static KafkaProducer<byte[], byte[]> producer(String bootstrap, Object... more) {
        Map<String, Object> config = config(bootstrap, more);
        config.put("key.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
        config.put("value.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
        return new KafkaProducer<>(config);
    }

    static KafkaConsumer<byte[], byte[]> consumer(String bootstrap, Object... more) {
        Map<String, Object> config = config(bootstrap, "auto.offset.reset", "earliest", "enable.auto.commit", false,
            "group.protocol", "classic");
        config.putAll(config(bootstrap, more));
        config.put("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        config.put("value.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        return new KafkaConsumer<>(config);
    }

    static String unique(String name) {
        return name + "-" + Long.toHexString(System.nanoTime()) + "-" + ThreadLocalRandom.current().nextInt(1 << 20);
    }

    static void equal(Object expected, Object found, String what) {
        if (!Objects.equals(expected, found))
            throw new AssertionError(what + ": expected " + expected + ", found " + found);
    }

    static void isTrue(boolean value, String what) {
        if (!value)
            throw new AssertionError(what);
    }

    interface Action {
        void run() throws Exception;
    }

    /** The action must fail with this exception (or one below the future's). */
    static void fails(Class<? extends Throwable> expected, Action action, String what) {
        try {
            action.run();
        } catch (Throwable thrown) {
            Throwable cause = thrown instanceof ExecutionException ? thrown.getCause() : thrown;
            if (expected.isInstance(cause))
                return;
            throw new AssertionError(what + ": expected " + expected.getSimpleName() + ", found " + cause, cause);
        }
        throw new AssertionError(what + ": expected " + expected.getSimpleName() + ", nothing was thrown");
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static void until(String what, Condition condition) throws Exception {
        long end = System.nanoTime() + LIMIT.toNanos();
        while (!condition.holds()) {
            if (System.nanoTime() > end)
                throw new AssertionError("waited " + LIMIT + " for: " + what);
            Thread.sleep(10);
        }
    }

    /** Creates a topic and waits until all leaders are known. */
    static void create(Admin admin, String topic, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        leaders(admin, topic, partitions);
    }

    /**
     * Waits until all leaders answer. Apache Kafka names them earlier than they serve, and a producer that meets one at the wrong moment
     * may have its second batch accepted before its first, which then never is.
     */
    static void leaders(Admin admin, String topic, int partitions) throws Exception {
        until("leaders of " + topic, () -> {
            try {
                TopicDescription d = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
                if (d.partitions().size() != partitions || d.partitions().stream().anyMatch(p -> p.leader() == null || p.leader().isEmpty()))
                    return false;
                Map<TopicPartition, OffsetSpec> ask = new HashMap<>();
                d.partitions().forEach(p -> ask.put(new TopicPartition(topic, p.partition()), OffsetSpec.latest()));
                return admin.listOffsets(ask).all().get().size() == partitions;
            } catch (ExecutionException e) {
                if (e.getCause() instanceof org.apache.kafka.common.errors.RetriableException)
                    return false;
                throw e;
            }
        });
    }

    /** Runs the public static methods of a class that are named on its command line; prints "ok NAME". */
    static void run(Class<?> checks, String[] args) throws Exception {
        for (String name : Arrays.copyOfRange(args, 1, args.length)) {
            try {
                checks.getDeclaredMethod(name, String.class).invoke(null, args[0]);
            } catch (java.lang.reflect.InvocationTargetException e) {
                throw new RuntimeException("check " + name, e.getCause());
            }
            System.out.println("ok " + name);
        }
    }
}
