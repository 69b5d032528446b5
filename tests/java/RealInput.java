import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.*;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;

/**
 * Every line of many files as a record with the file's path as its key.
 * main: produce|consume BOOTSTRAP TOPIC LIST CODEC, where LIST is a file with one path a line. The consumer compares every record with
 * the next line of its file and fails at the first difference; both print "FILES LINES BYTES".
 */
public class RealInput {
    /** The lines of a file: split at newlines, the last one may have none. */
    static final class Lines {
        private final byte[] text;
        private int at;

        Lines(String path) throws IOException {
            text = Files.readAllBytes(Path.of(path));
        }

        byte[] next() {
            if (at >= text.length)
                return null;
            int end = at;
            while (end < text.length && text[end] != '\n')
                end++;
            byte[] line = Arrays.copyOfRange(text, at, end);
            at = end + 1;
            return line;
        }
    }

    public static void main(String[] args) throws Exception {
        List<String> paths = Files.readAllLines(Path.of(args[3]));
        if (args[0].equals("produce"))
            produce(args[1], args[2], paths, args[4]);
        else
            consume(args[1], args[2], paths);
    }

    private static void produce(String bootstrap, String topic, List<String> paths, String codec) throws Exception {
        long lines = 0, bytes = 0;
        Exception[] failed = new Exception[1];
        try (var producer = Check.producer(bootstrap, "compression.type", codec, "linger.ms", 5, "batch.size", 131072, "buffer.memory", 67108864L)) {
            for (String path : paths) {
                byte[] key = path.getBytes(UTF_8);
                Lines file = new Lines(path);
                for (byte[] line = file.next(); line != null; line = file.next()) {
                    producer.send(new ProducerRecord<>(topic, key, line), (m, e) -> { if (e != null) failed[0] = e; });
                    lines++;
                    bytes += line.length;
                }
            }
            producer.flush();
        }
        if (failed[0] != null)
            throw failed[0];
        System.out.println(paths.size() + " " + lines + " " + bytes);
    }

    private static void consume(String bootstrap, String topic, List<String> paths) throws Exception {
        Map<String, Lines> open = new HashMap<>();
        Map<String, Integer> partition = new HashMap<>();
        Set<String> all = new HashSet<>(paths);
        long lines = 0, bytes = 0;
        try (var consumer = Check.consumer(bootstrap, "max.poll.records", 20000, "fetch.max.bytes", 52428800)) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long expected = ends.values().stream().mapToLong(e -> e).sum();
            long end = System.nanoTime() + Check.LIMIT.toNanos();
            while (lines < expected) {
                var records = consumer.poll(Duration.ofSeconds(1));
                if (!records.isEmpty())
                    end = System.nanoTime() + Check.LIMIT.toNanos();
                Check.isTrue(System.nanoTime() < end, "no record for " + Check.LIMIT + " after " + lines + " of " + expected);
                for (var r : records) {
                    String path = new String(r.key(), UTF_8);
                    Check.isTrue(all.contains(path), "a key that was not sent: " + path);
                    Check.equal(partition.computeIfAbsent(path, k -> r.partition()), r.partition(), "partition of " + path);
                    Lines file = open.get(path);
                    if (file == null)
                        open.put(path, file = new Lines(path));
                    byte[] line = file.next();
                    Check.isTrue(line != null, path + " has more records than lines");
                    Check.isTrue(Arrays.equals(line, r.value()), path + ", " + r.partition() + "/" + r.offset() + ": not the next line of the file");
                    lines++;
                    bytes += line.length;
                }
            }
        }
        for (var file : open.entrySet())
            Check.isTrue(file.getValue().next() == null, file.getKey() + " has more lines than records");
        for (String path : paths)
            Check.isTrue(open.containsKey(path) || Files.size(Path.of(path)) == 0, path + " has no record");
        System.out.println(paths.size() + " " + lines + " " + bytes);
    }
}
