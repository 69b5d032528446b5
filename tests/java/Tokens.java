import java.nio.charset.StandardCharsets;
import java.util.*;
import org.apache.kafka.common.config.*;
import org.apache.kafka.common.config.internals.BrokerSecurityConfigs;
import org.apache.kafka.common.security.oauthbearer.*;
import org.jose4j.jwk.*;
import org.jose4j.jws.JsonWebSignature;
import org.jose4j.jwt.consumer.*;
import org.jose4j.keys.EllipticCurves;

/** Tokens as Apache Kafka's broker judges them, and as jose4j makes them. */
public class Tokens {
    /** "make CLAIMS": a JWKS, then "ALGORITHM TOKEN" for each. "judge JWKS_URL [NAME=VALUE]..": of each token in a line, whose it is. */
    public static void main(String[] args) throws Exception {
        if (args[0].equals("make"))
            make(args[1]);
        else
            judge(args);
    }

    private static void make(String claims) throws Exception {
        Map<String, PublicJsonWebKey> keys = new LinkedHashMap<>();
        keys.put("RS256 RS384 RS512 PS256 PS384 PS512", RsaJwkGenerator.generateJwk(2048));
        keys.put("RS256 PS512", RsaJwkGenerator.generateJwk(4096));
        keys.put("ES256", EcJwkGenerator.generateJwk(EllipticCurves.P256));
        keys.put("ES384", EcJwkGenerator.generateJwk(EllipticCurves.P384));
        keys.put("ES512", EcJwkGenerator.generateJwk(EllipticCurves.P521));
        keys.put("EdDSA", OkpJwkGenerator.generateJwk("Ed25519"));
        List<String> lines = new ArrayList<>();
        JsonWebKeySet set = new JsonWebKeySet();
        int id = 0;
        for (var entry : keys.entrySet()) {
            PublicJsonWebKey key = entry.getValue();
            key.setKeyId("key-" + id++);
            set.addJsonWebKey(key);
            for (String algorithm : entry.getKey().split(" ")) {
                JsonWebSignature token = new JsonWebSignature();
                token.setAlgorithmHeaderValue(algorithm);
                token.setKeyIdHeaderValue(key.getKeyId());
                token.setPayload(claims);
                token.setKey(key.getPrivateKey());
                lines.add(algorithm + " " + token.getCompactSerialization());
            }
        }
        System.out.println(set.toJson(JsonWebKey.OutputControlLevel.PUBLIC_ONLY));
        lines.forEach(System.out::println);
    }

    private static void judge(String[] args) throws Exception {
        System.setProperty("org.apache.kafka.sasl.oauthbearer.allowed.urls", args[1]);
        Map<String, String> given = new HashMap<>(Map.of(SaslConfigs.SASL_OAUTHBEARER_JWKS_ENDPOINT_URL, args[1]));
        for (String pair : Arrays.copyOfRange(args, 2, args.length))
            given.put(pair.split("=", 2)[0], pair.split("=", 2)[1]);
        Map<String, Object> configs = BrokerSecurityConfigs.CONFIG_DEF.parse(given);
        var module = new javax.security.auth.login.AppConfigurationEntry("none",
            javax.security.auth.login.AppConfigurationEntry.LoginModuleControlFlag.REQUIRED, Map.of());
        try (BrokerJwtValidator validator = new BrokerJwtValidator()) {
            validator.configure(configs, OAuthBearerLoginModule.OAUTHBEARER_MECHANISM, List.of(module));
            Scanner tokens = new Scanner(System.in, StandardCharsets.UTF_8);
            while (tokens.hasNextLine()) {
                String token = tokens.nextLine();
                try {
                    OAuthBearerToken read = validator.validate(token);
                    System.out.println(read.principalName() + " " + read.lifetimeMs());
                } catch (Exception e) {
                    System.out.println("refused");
                    System.err.println(e.getMessage());
                }
            }
        }
    }
}
