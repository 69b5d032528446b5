import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * A producer that knows one broker of several bootstrap servers, which goes: it begins again with the others (KIP-899, KIP-1102).
 * main: BOOTSTRAP TOPIC, with a line on stdout at the end. Each server has a topic of that name for itself, which is empty.
 */
public class Rebootstrap {
    public static void main(String[] args) throws Exception {
        var record = new ProducerRecord<byte[], byte[]>(args[1], 0, null, "x".getBytes(UTF_8));
        try (var producer = Check.producer(args[0], "enable.idempotence", false, "metadata.recovery.strategy", "rebootstrap",
            "linger.ms", 0, "request.timeout.ms", 1000, "delivery.timeout.ms", 2000, "reconnect.backoff.max.ms", 200)) {
            Check.equal(0L, producer.send(record).get().offset(), "the first offset");
            long limit = System.nanoTime() + 2 * Check.LIMIT.toNanos();
            boolean again = false;
            while (!again) {
                Check.isTrue(System.nanoTime() < limit, "it begins again");
                try {
                    again = producer.send(record).get().offset() == 0;
                } catch (ExecutionException onItsWay) {
                    // to the one that went
                }
                Thread.sleep(20);
            }
        }
        System.out.println("ok " + args[1]);
    }
}
