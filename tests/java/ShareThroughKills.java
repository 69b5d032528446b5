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

/**
 * Two share consumers of one partition while the broker is killed: every record is confirmed as acknowledged, and none twice, so that none
 * was given out again after its confirmation. main: BOOTSTRAP NAME RECORDS, with a line on stdout at the end.
 */
public class ShareThroughKills {
    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], topic = args[1], group = args[1];
        int records = Integer.parseInt(args[2]);
        Map<Integer, Integer> confirmed = new ConcurrentHashMap<>();
        try (Admin admin = Check.admin(bootstrap)) {
            Check.create(admin, topic, 1);
            var earliest = new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET);
            var resource = new ConfigResource(ConfigResource.Type.GROUP, group);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(earliest))).all().get();
        }
        ExecutorService threads = Executors.newFixedThreadPool(3);
        try {
            List<Future<?>> running = new ArrayList<>();
            for (int t = 0; t < 2; t++)
                running.add(threads.submit(() -> {
                    consume(bootstrap, topic, group, records, confirmed);
                    return null;
                }));
            try (var producer = Check.producer(bootstrap, "delivery.timeout.ms", 120000, "reconnect.backoff.max.ms", 500)) {
                for (int i = 0; i < records; i++) {
                    producer.send(new ProducerRecord<>(topic, 0, null, Integer.toString(i).getBytes(UTF_8)));
                    if (i % 10 == 0)
                        Thread.sleep(20);
                }
                producer.flush();
            }
            for (var future : running)
                future.get();
        } finally {
            threads.shutdownNow();
        }
        List<Integer> missing = new ArrayList<>(), twice = new ArrayList<>();
        for (int i = 0; i < records; i++) {
            if (!confirmed.containsKey(i))
                missing.add(i);
            else if (confirmed.get(i) > 1)
                twice.add(i);
        }
        Check.isTrue(missing.isEmpty(), "never confirmed: " + missing);
        Check.isTrue(twice.isEmpty(), "given out again after the confirmation: " + twice);
        System.out.println("ok " + args[1]);
    }

    private static void consume(String bootstrap, String topic, String group, int records, Map<Integer, Integer> confirmed) {
        Map<String, Object> config = Check.config(bootstrap, "group.id", group, "share.acknowledgement.mode", "explicit",
            "reconnect.backoff.max.ms", 500, "max.poll.records", 50);
        config.put("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        config.put("value.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        long limit = System.nanoTime() + 3 * Check.LIMIT.toNanos();
        try (var consumer = new KafkaShareConsumer<byte[], byte[]>(config)) {
            consumer.subscribe(List.of(topic));
            while (confirmed.size() < records) {
                Check.isTrue(System.nanoTime() < limit, confirmed.size() + " of " + records + " confirmed in time");
                List<Integer> polled = new ArrayList<>();
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    consumer.acknowledge(record);
                    polled.add(Integer.parseInt(new String(record.value(), UTF_8)));
                }
                if (polled.isEmpty())
                    continue;
                var results = consumer.commitSync();
                if (!results.isEmpty() && results.values().stream().allMatch(Optional::isEmpty))
                    polled.forEach(n -> confirmed.merge(n, 1, Integer::sum));
            }
        }
    }
}
