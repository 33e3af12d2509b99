/* A producer and a consumer in C. Build: gcc first.c -o first $(pkg-config --cflags --libs fastq) */
#include <fastq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What cannot be done is said, and ends the program. */
static void must(int code) {
    if (code != FASTQ_OK) {
        fprintf(stderr, "%s: %s\n", fastq_code_name(code), fastq_last_error());
        exit(1);
    }
}

int main(void) {
    fastq_connection c;
    fastq_queue work;
    fastq_subscription s;
    must(fastq_connect(NULL, "name=first", &c));
    must(fastq_declare_queue(c, "work", "max-deliveries=5", NULL));
    must(fastq_open_queue(c, "work", &work));
    for (int i = 0; i < 3; i++) {
        char text[32];
        snprintf(text, sizeof text, "hello %d", i);
        must(fastq_publish(c, work, text, strlen(text), NULL, 0, FASTQ_DURABLE, NULL));
    }
    must(fastq_flush(c, FASTQ_DURABLE, -1)); /* All three are on the disk. */

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
