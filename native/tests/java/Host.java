/** libfastq in a Java process: Host SHIM. Three messages go there and back while the garbage collector works and null pointers are caught. */
public final class Host {
    private static final int NULLS = 20_000;
    private static volatile Object[] garbage = new Object[0];
    private static volatile boolean isOver;
    private static volatile long collections;
    private static volatile String nothing;

    private Host() {}

    /** Publishes a text, receives and settles it in a connection of its own; an error's words come as an exception. */
    private static native String thereAndBack(String text);

    /** A compiled loop is stopped for a collection by a page that it may not read: by the virtual machine's handler of SIGSEGV. */
    private static long turnUntilCollected(int more) {
        long turns = 0;
        for (long end = collections + more; collections < end; turns++) {
        }
        return turns;
    }

    /** Nulls are met without a look before, once the code is compiled: that handler makes the exceptions. */
    private static int catchNulls() {
        int caught = 0;
        for (int i = 0; i < NULLS; i++) {
            try {
                caught -= nothing.length();
            } catch (NullPointerException expected) {
                caught++;
            }
        }
        return caught;
    }

    public static void main(String[] arguments) throws InterruptedException {
        System.load(arguments[0]);
        Thread collector = new Thread(() -> {
            while (!isOver) {
                garbage = new Object[100_000];
                System.gc();
                collections++;
            }
        });
        collector.start();
        for (int i = 0; i < 3; i++) {
            String came = thereAndBack("hello " + i);
            if (turnUntilCollected(20) < 0 || catchNulls() != NULLS) {
                throw new IllegalStateException("null pointers are not caught any more");
            }
            System.out.println(came);
        }
        isOver = true;
        collector.join();
    }
}
