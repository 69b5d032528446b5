import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;

/**
 * Two consumers of the consumer protocol while the broker is killed: they go on, without an error of any call, and read every record.
 * main: BOOTSTRAP NAME RECORDS, with a line on stdout at the end.
 */
public class GroupThroughKills {
    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], name = args[1];
        int records = Integer.parseInt(args[2]);
        Set<Integer> seen = ConcurrentHashMap.newKeySet();
        try (Admin admin = Check.admin(bootstrap)) {
            Check.create(admin, name, 2);
        }
        ExecutorService threads = Executors.newFixedThreadPool(2);
        try {
            List<Future<?>> running = new ArrayList<>();
            for (int t = 0; t < 2; t++)
                running.add(threads.submit(() -> {
                    consume(bootstrap, name, records, seen);
                    return null;
                }));
            try (var producer = Check.producer(bootstrap, "delivery.timeout.ms", 120000, "reconnect.backoff.max.ms", 500)) {
                for (int i = 0; i < records; i++) {
                    producer.send(new ProducerRecord<>(name, i % 2, null, Integer.toString(i).getBytes(UTF_8)));
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
        System.out.println("ok " + name);
    }

    private static void consume(String bootstrap, String name, int records, Set<Integer> seen) {
        long limit = System.nanoTime() + 3 * Check.LIMIT.toNanos();
        try (var consumer = Check.consumer(bootstrap, "group.id", name, "group.protocol", "consumer",
            "reconnect.backoff.max.ms", 500, "max.poll.records", 50, "default.api.timeout.ms", 120000)) {
            consumer.subscribe(List.of(name));
            while (seen.size() < records) {
                Check.isTrue(System.nanoTime() < limit, seen.size() + " of " + records + " read in time");
                List<Integer> polled = new ArrayList<>();
                for (var record : consumer.poll(Duration.ofMillis(200)))
                    polled.add(Integer.parseInt(new String(record.value(), UTF_8)));
                if (!polled.isEmpty())
                    consumer.commitSync();
                seen.addAll(polled);
            }
        }
    }
}
