import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.utils.ImplicitLinkedHashCollection;

/**
 * A message as text, field by field, by reflection: what Rust's dump of the same value must be. Fields are sorted by
 * name; names are lower case without underscores; strings, bytes and ids are hexadecimal.
 */
final class Dump {
    private final StringBuilder out = new StringBuilder();

    static String of(Message message) throws IllegalAccessException {
        Dump dump = new Dump();
        dump.message(message);
        return dump.out.toString();
    }

    private void message(Message message) throws IllegalAccessException {
        Map<String, Object> fields = new TreeMap<>();
        for (Field field : message.getClass().getDeclaredFields()) {
            boolean link = message instanceof ImplicitLinkedHashCollection.Element
                && (field.getName().equals("next") || field.getName().equals("prev"));
            if (Modifier.isStatic(field.getModifiers()) || link || field.getName().equals("_unknownTaggedFields")) {
                continue;
            }
            field.setAccessible(true);
            fields.put(field.getName().toLowerCase(Locale.ROOT), field.get(message));
        }
        out.append('{');
        for (Map.Entry<String, Object> field : fields.entrySet()) {
            out.append(field.getKey()).append('=');
            value(field.getValue());
            out.append(';');
        }
        List<RawTaggedField> unknown = message.unknownTaggedFields();
        if (unknown != null) {
            for (RawTaggedField field : unknown) {
                out.append(field.tag()).append('#');
                hex(field.data());
                out.append(';');
            }
        }
        out.append('}');
    }

    private void value(Object value) throws IllegalAccessException {
        if (value == null) {
            out.append("null");
        } else if (value instanceof Message message) {
            message(message);
        } else if (value instanceof Collection<?> elements) {
            out.append('[');
            for (Object element : elements) {
                value(element);
                out.append(',');
            }
            out.append(']');
        } else if (value instanceof String text) {
            hex(text.getBytes(StandardCharsets.UTF_8));
        } else if (value instanceof byte[] bytes) {
            hex(bytes);
        } else if (value instanceof ByteBuffer buffer) {
            buffer(buffer);
        } else if (value instanceof MemoryRecords records) {
            buffer(records.buffer());
        } else if (value instanceof Uuid id) {
            out.append(String.format("%016x%016x", id.getMostSignificantBits(), id.getLeastSignificantBits()));
        } else if (value instanceof Double number) {
            out.append(String.format("%016x", Double.doubleToRawLongBits(number)));
        } else if (value instanceof Number || value instanceof Boolean) {
            out.append(value);
        } else {
            throw new AssertionError("no text for " + value.getClass());
        }
    }

    private void buffer(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        hex(bytes);
    }

    private void hex(byte[] bytes) {
        out.append('x');
        for (byte b : bytes) {
            out.append(Character.forDigit((b >> 4) & 15, 16)).append(Character.forDigit(b & 15, 16));
        }
    }
}
