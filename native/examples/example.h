/* What the examples in C share. */
#include <fastq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What cannot be done is said, and ends the program. */
static inline void must(int code) {
    if (code != FASTQ_OK) {
        fprintf(stderr, "%s: %s\n", fastq_code_name(code), fastq_last_error());
        exit(1);
    }
}
