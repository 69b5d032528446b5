import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.DefaultRecordBatch;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;

/** Writes the golden batches with Kafka's own builder, and the listing of each: java Generate FOLDER */
final class Generate {
    private static final long TIME = 1_700_000_000_000L;

    private Generate() { }

    public static void main(String[] args) throws Exception {
        Path folder = Path.of(args[0]);
        for (CompressionType type : CompressionType.values()) {
            Compression compression = Compression.of(type).build();
            // Larger than a block of every codec's framing; what no codec makes small stays out of the repository.
            int large = type == CompressionType.NONE ? 500 : 150_000;
            save(folder, type.name, plain(compression, large));
            save(folder, type.name + "-producer", transactional(compression));
            save(folder, type.name + "-append-time", appendTime(compression));
        }
        save(folder, "marker", MemoryRecords.withEndTransactionMarker(40, TIME, 3, 1234, (short) 5,
            new EndTransactionMarker(ControlRecordType.COMMIT, 17)));
        ByteBuffer empty = ByteBuffer.allocate(DefaultRecordBatch.RECORD_BATCH_OVERHEAD);
        DefaultRecordBatch.writeEmptyHeader(empty, (byte) 2, 1234, (short) 5, 70, 100, 109, 3, TimestampType.CREATE_TIME,
            TIME, false, false);
        empty.flip();
        save(folder, "emptied-by-compaction", MemoryRecords.readableRecords(empty));
    }

    private static MemoryRecords plain(Compression compression, int large) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), compression, TimestampType.CREATE_TIME, 0);
        builder.append(TIME, bytes("key"), bytes("value"));
        builder.append(TIME - 1000, null, bytes("no key"));
        builder.append(TIME + 7, bytes("no value"), null);
        builder.append(TIME + 7, bytes(""), bytes(""), new Header[0]);
        Header[] headers = {new RecordHeader("trace", bytes("\u00e9\u00e8")), new RecordHeader("null", (byte[]) null), new RecordHeader("", bytes(""))};
        builder.append(TIME + 1, bytes("headers"), bytes("x"), headers);
        byte[] value = new byte[large];
        for (int i = 0; i < large; i++)
            value[i] = (byte) (i / 1000);
        builder.append(TIME + 2, bytes("large"), value);
        return builder.build();
    }

    /** A batch whose sequences wrap. */
    private static MemoryRecords transactional(Compression compression) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 16), (byte) 2, compression,
            TimestampType.CREATE_TIME, 1L << 40, -1L, 1L << 50, (short) 32767, Integer.MAX_VALUE - 2, true, 9);
        for (int i = 0; i < 5; i++)
            builder.append(TIME + i * 100_000_000L, bytes("k" + i), bytes("v" + i));
        return builder.build();
    }

    private static MemoryRecords appendTime(Compression compression) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 16), (byte) 2, compression,
            TimestampType.LOG_APPEND_TIME, 5, TIME + 5);
        builder.append(TIME - 5000, bytes("a"), bytes("b"));
        builder.append(-1, bytes("c"), bytes("d"));
        return builder.build();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void save(Path folder, String name, MemoryRecords records) throws Exception {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] file = new byte[buffer.remaining()];
        buffer.get(file);
        Files.write(folder.resolve(name + ".bin"), file);
        try (PrintStream out = new PrintStream(Files.newOutputStream(folder.resolve(name + ".txt")), false, StandardCharsets.UTF_8)) {
            Listing.print(file, out);
        }
    }
}
