import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs main methods one after another in one JVM, because a JVM start costs a second.
 * A call on stdin: a line "ARGUMENTS INPUT_BYTES", each argument as "LENGTH\n" and its bytes (the first is the class), the input.
 * The answer on stdout: a line "STATUS OUT_BYTES ERR_BYTES", the two outputs. Status 70: an exception went through.
 */
public class Host {
    static final class Ended extends RuntimeException {
        final int status;

        Ended(int status) {
            super("exit " + status, null, false, false);
            this.status = status;
        }
    }

    /** What the running call has left to do at its end: the console producer flushes in such a hook. */
    private static final List<Runnable> HOOKS = Collections.synchronizedList(new ArrayList<>());
    /** The first status that the running call has exited with; a tool may catch what {@link #exit} throws, and exit again. */
    private static volatile Integer status;

    private static void exit(int with) {
        if (status == null)
            status = with;
        throw new Ended(with);
    }

    public static void main(String[] none) throws Exception {
        Exit.setExitProcedure((status, message) -> exit(status));
        Exit.setHaltProcedure((status, message) -> exit(status));
        Exit.setShutdownHookAdder((name, hook) -> HOOKS.add(hook));
        DataInputStream calls = new DataInputStream(new BufferedInputStream(System.in));
        PrintStream answers = System.out;
        // a thread that a tool has left behind may still print
        System.setOut(System.err);
        for (String line = line(calls); line != null; line = line(calls)) {
            String[] head = line.split(" ");
            String[] call = new String[Integer.parseInt(head[0])];
            for (int i = 0; i < call.length; i++)
                call[i] = new String(calls.readNBytes(Integer.parseInt(line(calls))), StandardCharsets.UTF_8);
            byte[] input = calls.readNBytes(Integer.parseInt(head[1]));
            ByteArrayOutputStream out = new ByteArrayOutputStream(), err = new ByteArrayOutputStream();
            int result = run(call, input, out, err);
            answers.print(result + " " + out.size() + " " + err.size() + "\n");
            out.writeTo(answers);
            err.writeTo(answers);
            answers.flush();
        }
    }

    private static String line(InputStream in) throws IOException {
        StringBuilder text = new StringBuilder();
        for (int b = in.read(); b != '\n'; b = in.read()) {
            if (b < 0)
                return null;
            text.append((char) b);
        }
        return text.toString();
    }

    private static int run(String[] call, byte[] input, OutputStream out, OutputStream err) throws Exception {
        InputStream oldIn = System.in;
        PrintStream oldOut = System.out, oldErr = System.err;
        System.setIn(new ByteArrayInputStream(input));
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        status = null;
        int[] failed = {0};
        Thread thread = new Thread(() -> {
            try {
                String[] args = Arrays.copyOfRange(call, 1, call.length);
                Class.forName(call[0]).getMethod("main", String[].class).invoke(null, (Object) args);
            } catch (Throwable thrown) {
                Throwable cause = thrown;
                while (!(cause instanceof Ended) && cause.getCause() != null)
                    cause = cause.getCause();
                if (!(cause instanceof Ended)) {
                    thrown.printStackTrace(System.err);
                    failed[0] = 70;
                }
            }
            HOOKS.forEach(Runnable::run);
            HOOKS.clear();
        }, "call");
        thread.start();
        thread.join();
        System.out.flush();
        System.err.flush();
        System.setIn(oldIn);
        System.setOut(oldOut);
        System.setErr(oldErr);
        return status == null ? failed[0] : status;
    }
}
