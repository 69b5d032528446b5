import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.config.ConfigResource;

/** Java's clients push their metrics (KIP-714), which they do by default. main: BOOTSTRAP CLIENT_ID */
public class TelemetryChecks {
    /** Prints the id of a producer that was asked for its metrics, has written, and has gone. */
    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], client = args[1];
        try (Admin admin = Check.admin(bootstrap)) {
            Check.create(admin, client, 1);
            var subscription = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, client);
            admin.incrementalAlterConfigs(Map.of(subscription, List.of(
                set("metrics", "org.apache.kafka.producer.record.,org.apache.kafka.producer.request.latency"),
                set("interval.ms", "200"), set("match", "client_id=" + client + ",client_software_name=apache-kafka-java"))))
                .all().get();
            try (var producer = Check.producer(bootstrap, "client.id", client)) {
                System.out.println("id " + producer.clientInstanceId(Duration.ofSeconds(60)));
                // the first push comes after an interval
                for (int i = 0; i < 1000; i++)
                    producer.send(new ProducerRecord<>(client, Integer.toString(i).getBytes(UTF_8))).get();
            }
        }
    }

    private static AlterConfigOp set(String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
    }
}
