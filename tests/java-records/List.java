import java.nio.file.Files;
import java.nio.file.Path;

/** Prints what Kafka's client reads in files of record batches: java List FILE... */
final class List {
    private List() { }

    public static void main(String[] files) throws Exception {
        for (String file : files)
            Listing.print(Files.readAllBytes(Path.of(file)), System.out);
    }
}
