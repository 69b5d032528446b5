import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;

/** Java's clients with tokens of a provider. main: "BOOTSTRAP TOKEN_URL" CHECK.. */
public class OAuthChecks {
    private static final String PACKAGE = "org.apache.kafka.common.security.oauthbearer.";

    public static void main(String[] args) throws Exception {
        Check.run(OAuthChecks.class, args);
    }

    private static String bootstrap(String where) {
        return where.split(" ")[0];
    }

    /** Tokens from a URL of http or file. */
    private static Object[] settings(String where, Object... more) {
        String url = where.split(" ")[1];
        System.setProperty("org.apache.kafka.sasl.oauthbearer.allowed.urls", url);
        List<Object> all = new ArrayList<>(List.of("security.protocol", "SASL_PLAINTEXT", "sasl.mechanism", "OAUTHBEARER",
            "sasl.jaas.config", PACKAGE + "OAuthBearerLoginModule required;",
            "sasl.login.callback.handler.class", PACKAGE + "OAuthBearerLoginCallbackHandler",
            "sasl.oauthbearer.token.endpoint.url", url,
            "sasl.oauthbearer.client.credentials.client.id", "app",
            "sasl.oauthbearer.client.credentials.client.secret", "app-secret"));
        // A token of seconds is asked for again within them.
        all.addAll(List.of("sasl.login.refresh.min.period.seconds", (short) 0, "sasl.login.refresh.buffer.seconds", (short) 0,
            "sasl.login.refresh.window.factor", 0.5));
        all.addAll(Arrays.asList(more));
        return all.toArray();
    }

    private static double metric(Map<MetricName, ? extends Metric> all, String name) {
        return all.values().stream().filter(m -> m.metricName().name().equals(name) && m.metricName().tags().size() == 1)
            .mapToDouble(m -> (double) m.metricValue()).sum();
    }

    private static void read(String where, String topic, int n) {
        try (var consumer = Check.consumer(bootstrap(where), settings(where, "group.id", topic))) {
            consumer.subscribe(List.of(topic));
            long end = System.nanoTime() + Check.LIMIT.toNanos();
            for (int got = 0; got < n; ) {
                Check.isTrue(System.nanoTime() < end, "only " + got + " of " + n + " records came");
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1)))
                    Check.equal("" + got++, new String(record.value(), UTF_8), "a record");
            }
            consumer.commitSync();
        }
    }

    static void records_go_through(String where) throws Exception {
        String topic = Check.unique("oauth");
        try (Admin admin = Admin.create(Check.config(bootstrap(where), settings(where)))) {
            Check.create(admin, topic, 1);
        }
        try (var producer = Check.producer(bootstrap(where), settings(where))) {
            for (int i = 0; i < 100; i++)
                producer.send(new ProducerRecord<>(topic, ("" + i).getBytes(UTF_8)));
            producer.flush();
        }
        read(where, topic, 100);
    }

    /** The connection stays, whatever becomes of tokens. */
    static void sessions_are_renewed(String where) throws Exception {
        String topic = Check.unique("oauth-renewed");
        int sent = 0;
        try (var producer = Check.producer(bootstrap(where), settings(where))) {
            long end = System.nanoTime() + Check.LIMIT.toNanos();
            while (metric(producer.metrics(), "successful-reauthentication-total") < 1) {
                Check.isTrue(System.nanoTime() < end, "no session was renewed");
                producer.send(new ProducerRecord<>(topic, 0, null, ("" + sent++).getBytes(UTF_8))).get();
            }
            Check.equal(0.0, metric(producer.metrics(), "failed-reauthentication-total"), "failures");
        }
        read(where, topic, sent);
    }

    static void a_strangers_token_is_refused(String where) throws Exception {
        try (var producer = Check.producer(bootstrap(where), settings(where))) {
            producer.send(new ProducerRecord<>("any", new byte[1])).get();
            throw new AssertionError("a stranger got in");
        } catch (ExecutionException e) {
            Check.isTrue(e.getCause() instanceof SaslAuthenticationException, "" + e.getCause());
            Check.equal("{\"status\":\"invalid_token\"}", e.getCause().getMessage(), "what it is told");
        }
    }
}
