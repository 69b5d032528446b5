import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.zip.CRC32C;

import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;

/** Lists batches and records in words that the Rust side (storage/tests/kafka_batches.rs) prints too. */
final class Listing {
    private Listing() { }

    static void print(byte[] file, PrintStream out) {
        ByteBuffer buffer = ByteBuffer.wrap(file);
        int read = 0;
        for (RecordBatch batch : MemoryRecords.readableRecords(buffer).batches()) {
            batch.ensureValid();
            read += batch.sizeInBytes();
            out.printf("batch %d-%d count %d codec %s %s %d producer %d %d %d txn %b control %b leader %d%n",
                batch.baseOffset(), batch.lastOffset(), batch.countOrNull(), batch.compressionType().name, batch.timestampType(),
                batch.maxTimestamp(), batch.producerId(), batch.producerEpoch(), batch.baseSequence(),
                batch.isTransactional(), batch.isControlBatch(), batch.partitionLeaderEpoch());
            for (Record record : batch) {
                StringBuilder headers = new StringBuilder();
                for (Header header : record.headers()) {
                    ByteBuffer value = header.value() == null ? null : ByteBuffer.wrap(header.value());
                    headers.append(' ').append(bytes(ByteBuffer.wrap(header.key().getBytes(StandardCharsets.UTF_8))))
                        .append('=').append(bytes(value));
                }
                out.printf("record %d at %d sequence %d key %s value %s headers%s%n", record.offset(), record.timestamp(),
                    record.sequence(), bytes(record.key()), bytes(record.value()), headers);
            }
        }
        if (read != file.length)
            throw new IllegalStateException("read " + read + " of " + file.length + " bytes");
    }

    /** Length and CRC-32C; "null" for null. */
    private static String bytes(ByteBuffer bytes) {
        if (bytes == null)
            return "null";
        CRC32C crc = new CRC32C();
        crc.update(bytes.duplicate());
        return String.format("%d:%08x", bytes.remaining(), crc.getValue());
    }
}
