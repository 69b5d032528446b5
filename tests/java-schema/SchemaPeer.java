import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.metadata.MetadataRecordSerde;
import org.apache.kafka.server.common.ApiMessageAndVersion;

/**
 * Kafka's own serialiser at the other end of a pipe. Requests and replies are frames of a four-byte length and a body;
 * strings are four bytes of length and UTF-8. Operations: see {@link #serve}.
 */
final class SchemaPeer {
    private final Map<String, Class<?>> classes = new HashMap<>();

    public static void main(String[] args) throws IOException {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
        SchemaPeer peer = new SchemaPeer();
        while (true) {
            int length;
            try {
                length = in.readInt();
            } catch (java.io.EOFException end) {
                return;
            }
            byte[] request = in.readNBytes(length);
            ByteArrayOutputStream reply = new ByteArrayOutputStream();
            DataOutputStream body = new DataOutputStream(reply);
            try {
                ByteArrayOutputStream good = new ByteArrayOutputStream();
                peer.serve(ByteBuffer.wrap(request), new DataOutputStream(good));
                body.writeByte(0);
                body.write(good.toByteArray());
            } catch (Exception | AssertionError error) {
                StringWriter text = new StringWriter();
                error.printStackTrace(new PrintWriter(text));
                body.writeByte(1);
                text(body, text.toString());
            }
            out.writeInt(reply.size());
            reply.writeTo(out);
            out.flush();
        }
    }

    private void serve(ByteBuffer in, DataOutputStream out) throws Exception {
        byte operation = in.get();
        switch (operation) {
            case 0 -> { // class, version, bytes -> the bytes written again, the dump
                Message message = newMessage(text(in));
                short version = in.getShort();
                read(message, version, bytes(in));
                bytes(out, write(message, version));
                text(out, Dump.of(message));
            }
            case 1 -> { // class, version, seed -> bytes of a random value, the dump
                Message message = newMessage(text(in));
                short version = in.getShort();
                Schema[] schemas = (Schema[]) message.getClass().getField("SCHEMAS").get(null);
                byte[] random = new RandomBytes(in.getLong()).of(schemas[version]);
                read(message, version, random);
                bytes(out, write(message, version));
                text(out, Dump.of(message));
            }
            case 2 -> { // class -> lowest and highest version, API key or -1, the dump of a new value
                Message message = newMessage(text(in));
                out.writeShort(message.lowestSupportedVersion());
                out.writeShort(message.highestSupportedVersion());
                out.writeShort(message instanceof ApiMessage api ? api.apiKey() : -1);
                text(out, Dump.of(message));
            }
            case 3 -> { // -> one line per API: key, name, versions served, header versions of each version known
                for (ApiKeys api : ApiKeys.values()) {
                    if (api.hasValidVersion()) {
                        StringBuilder line = new StringBuilder();
                        line.append(api.id).append('\t').append(api.oldestVersion()).append('\t')
                            .append(api.latestVersion(false)).append('\t').append(api.messageType.listeners());
                        for (short v = api.oldestVersion(); v <= api.latestVersion(true); v++) {
                            line.append('\t').append(v).append(':').append(api.requestHeaderVersion(v)).append(':')
                                .append(api.responseHeaderVersion(v));
                        }
                        text(out, line.toString());
                    }
                }
            }
            case 4 -> { // class, version, bytes -> the record as a coordinator stores it: key, value
                Message message = newMessage(text(in));
                short version = in.getShort();
                read(message, version, bytes(in));
                boolean key = message.getClass().getSimpleName().endsWith("Key");
                bytes(out, key
                    ? MessageUtil.toCoordinatorTypePrefixedBytes((ApiMessage) message)
                    : MessageUtil.toVersionPrefixedBytes(version, message));
            }
            case 5 -> { // class, version, bytes -> the record in the metadata frame
                Message message = newMessage(text(in));
                short version = in.getShort();
                read(message, version, bytes(in));
                ApiMessageAndVersion record = new ApiMessageAndVersion((ApiMessage) message, version);
                ObjectSerializationCache cache = new ObjectSerializationCache();
                MetadataRecordSerde serde = new MetadataRecordSerde();
                ByteBuffer buffer = ByteBuffer.allocate(serde.recordSize(record, cache));
                serde.write(record, cache, new ByteBufferAccessor(buffer));
                bytes(out, buffer.array());
            }
            case 6 -> { // class, version read, version written, bytes -> bytes
                Message message = newMessage(text(in));
                short from = in.getShort();
                short to = in.getShort();
                read(message, from, bytes(in));
                bytes(out, write(message, to));
            }
            default -> throw new IllegalArgumentException("operation " + operation);
        }
    }

    private Message newMessage(String name) throws Exception {
        Class<?> found = classes.get(name);
        if (found == null) {
            found = Class.forName(name);
            classes.put(name, found);
        }
        return (Message) found.getConstructor().newInstance();
    }

    private static void read(Message message, short version, byte[] bytes) {
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        message.read(new ByteBufferAccessor(buffer), version);
        if (buffer.hasRemaining()) {
            throw new AssertionError(buffer.remaining() + " bytes left");
        }
    }

    private static byte[] write(Message message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(buffer), cache, version);
        if (buffer.hasRemaining()) {
            throw new AssertionError(buffer.remaining() + " bytes of the size not written");
        }
        return buffer.array();
    }

    private static byte[] bytes(ByteBuffer in) {
        byte[] bytes = new byte[in.getInt()];
        in.get(bytes);
        return bytes;
    }

    private static String text(ByteBuffer in) {
        return new String(bytes(in), StandardCharsets.UTF_8);
    }

    private static void bytes(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes.length);
        out.write(bytes);
    }

    private static void text(DataOutputStream out, String text) throws IOException {
        bytes(out, text.getBytes(StandardCharsets.UTF_8));
    }
}
