import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.apache.kafka.common.protocol.types.ArrayOf;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.CompactArrayOf;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;

/** Writes random bytes that follow a schema, with no help from Kafka's writers. */
final class RandomBytes {
    private final Random random;
    private ByteArrayOutputStream out = new ByteArrayOutputStream();

    RandomBytes(long seed) {
        random = new Random(seed);
    }

    byte[] of(Schema schema) {
        schema(schema, 0);
        return out.toByteArray();
    }

    private void schema(Schema schema, int depth) {
        for (BoundField field : schema.fields()) {
            value(field.def.type, depth);
        }
    }

    private void value(Type type, int depth) {
        if (type instanceof TaggedFields tagged) {
            tagged(tagged, depth);
        } else if (type instanceof Schema schema) {
            if (type.isNullable()) {
                boolean nothing = random.nextInt(3) == 0;
                out.write(nothing ? -1 : 1);
                if (nothing) {
                    return;
                }
            }
            schema(schema, depth + 1);
        } else if (type.isArray()) {
            array(type, depth);
        } else {
            plain(type);
        }
    }

    private void array(Type type, int depth) {
        boolean compact = type instanceof CompactArrayOf;
        if (!compact && !(type instanceof ArrayOf)) {
            throw new AssertionError("array type " + type.getClass());
        }
        if (type.isNullable() && random.nextInt(4) == 0) {
            length(-1, compact, 4);
            return;
        }
        Type element = type.arrayElementType().orElseThrow();
        boolean small = !(element instanceof Schema);
        int count = small && random.nextInt(20) == 0 ? 100 + random.nextInt(200) : random.nextInt(depth > 1 ? 3 : 4);
        length(count, compact, 4);
        for (int i = 0; i < count; i++) {
            value(element, depth);
        }
    }

    private void plain(Type type) {
        String name = type.toString();
        switch (name) {
            case "BOOLEAN" -> out.write(random.nextInt(2));
            case "INT8" -> number(1);
            case "INT16", "UINT16" -> number(2);
            case "INT32", "UINT32" -> number(4);
            case "INT64" -> number(8);
            case "FLOAT64" -> big(Double.doubleToRawLongBits(random.nextGaussian() * 1e6), 8);
            case "UUID" -> bytes(random.nextInt(4) == 0 ? new byte[16] : fill(16));
            default -> variable(name);
        }
    }

    private void variable(String name) {
        boolean compact = name.startsWith("COMPACT_");
        boolean text = name.endsWith("STRING");
        if (!text && !name.endsWith("BYTES") && !name.endsWith("RECORDS")) {
            throw new AssertionError("type " + name);
        }
        int prefix = text ? 2 : 4;
        // The schemas call records RECORDS though most may be null; a null is tried where the name says so.
        if (name.contains("NULLABLE") && random.nextInt(4) == 0) {
            length(-1, compact, prefix);
            return;
        }
        byte[] value = text ? text().getBytes(StandardCharsets.UTF_8) : fill(size());
        length(value.length, compact, prefix);
        bytes(value);
    }

    private void tagged(TaggedFields fields, int depth) {
        Map<Integer, byte[]> values = new TreeMap<>();
        for (Map.Entry<Integer, Field> field : fields.fields().entrySet()) {
            if (random.nextInt(2) == 0) {
                Type type = field.getValue().type;
                values.put(field.getKey(), separately(() -> {
                    if (type instanceof Schema schema && type.isNullable()) {
                        // Tagged, the mark of a nullable struct is a varint.
                        boolean nothing = random.nextInt(3) == 0;
                        varint(nothing ? 0 : 1);
                        if (!nothing) {
                            schema(schema, depth + 1);
                        }
                    } else {
                        value(type, depth + 1);
                    }
                }));
            }
        }
        for (int i = random.nextInt(12) == 0 ? 1 + random.nextInt(3) : 0; i > 0; i--) {
            values.put(100 + random.nextInt(1 << 20), fill(size()));
        }
        varint(values.size());
        values.forEach((tag, value) -> {
            varint(tag);
            varint(value.length);
            bytes(value);
        });
    }

    private byte[] separately(Runnable write) {
        ByteArrayOutputStream outer = out;
        out = new ByteArrayOutputStream();
        write.run();
        byte[] value = out.toByteArray();
        out = outer;
        return value;
    }

    private void length(int length, boolean compact, int prefix) {
        if (compact) {
            varint(length + 1);
        } else {
            big(length, prefix);
        }
    }

    private void number(int size) {
        switch (random.nextInt(5)) {
            case 0 -> big(0, size);
            case 1 -> big(-1, size);
            case 2 -> big(random.nextInt(100), size);
            default -> big(random.nextLong(), size);
        }
    }

    private void big(long value, int size) {
        for (int i = size - 1; i >= 0; i--) {
            out.write((int) (value >> (8 * i)));
        }
    }

    private void varint(int value) {
        while ((value & ~0x7f) != 0) {
            out.write(value & 0x7f | 0x80);
            value >>>= 7;
        }
        out.write(value);
    }

    private void bytes(byte[] bytes) {
        out.write(bytes, 0, bytes.length);
    }

    private byte[] fill(int size) {
        byte[] bytes = new byte[size];
        random.nextBytes(bytes);
        return bytes;
    }

    private int size() {
        return switch (random.nextInt(12)) {
            case 0 -> 0;
            case 1 -> 100 + random.nextInt(100);
            case 2 -> 1000 + random.nextInt(100);
            case 3 -> random.nextInt(8) == 0 ? 20_000 : 3;
            default -> random.nextInt(12);
        };
    }

    private String text() {
        List<String> alphabet = new ArrayList<>(List.of("a", "Z", "-", "0", "\u00e9", "\u4e2d", "\ud83d\ude80", "\u0000"));
        StringBuilder text = new StringBuilder();
        int size = random.nextInt(40) == 0 ? 200 : random.nextInt(9);
        for (int i = 0; i < size; i++) {
            text.append(alphabet.get(random.nextInt(alphabet.size())));
        }
        return text.toString();
    }
}
