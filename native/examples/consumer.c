/* A consumer in C: it prints three messages. Build: gcc consumer.c -o consumer $(pkg-config --cflags --libs fastq) */
#include "example.h"

int main(void) {
    fastq_connection c;
    fastq_subscription s;
    must(fastq_connect(NULL, "name=consumer", &c));
    must(fastq_subscribe(c, "work", "credit=10", &s));
    for (size_t seen = 0, came; seen < 3; seen += came) {
        fastq_message messages[10];
        must(fastq_receive(c, s, messages, 10, -1, &came));
        for (size_t i = 0; i < came; i++) {
            printf("%.*s\n", (int)messages[i].body_bytes, (const char *)messages[i].body); /* Read where it lies. */
            must(fastq_settle(c, s, &messages[i], FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
        }
    }
    must(fastq_flush(c, FASTQ_DURABLE, -1)); /* The settlements, too. */
    must(fastq_close(c));
    return 0;
}
