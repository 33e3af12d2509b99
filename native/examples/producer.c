/* A producer in C. Build: gcc producer.c -o producer $(pkg-config --cflags --libs fastq) */
#include "example.h"

int main(void) {
    fastq_connection c;
    fastq_queue work;
    must(fastq_connect(NULL, "name=producer", &c));
    must(fastq_declare_queue(c, "work", "max-deliveries=5", NULL));
    must(fastq_open_queue(c, "work", &work));
    for (int i = 0; i < 3; i++) {
        char text[32];
        snprintf(text, sizeof text, "hello %d", i);
        must(fastq_publish(c, work, text, strlen(text), NULL, 0, FASTQ_DURABLE, NULL));
    }
    must(fastq_flush(c, FASTQ_DURABLE, -1)); /* All three are on the disk. */
    must(fastq_close(c));
    return 0;
}
