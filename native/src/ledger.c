// What was processed is marked, in one step with the accept, and whoever meets it again asks: for work that must be done once.
#include "session.h"

static int accept_processed(struct session *s, struct subscription *u, const fastq_message *message, const char *key, const void *result, size_t bytes, fastq_processed *processed) {
    unsigned char room[1024];
    struct field_writer fields = {.room = room, .size = sizeof room};
    const unsigned char *answer;
    size_t position = 0, length;
    int code = flush_all_settles(s);
    if (code != FASTQ_OK) {
        return code;
    }
    put_number(&fields, FIELD_QUEUE, u->queue);
    put_number(&fields, FIELD_SUBSCRIPTION, is_open(u, message->number, message->life) ? u->id : 0);
    put_number(&fields, FIELD_FIRST_DELIVERY, message->number);
    put_text(&fields, FIELD_PROCESSED_KEY, key);
    put_field(&fields, FIELD_PROCESSED_RESULT, result, bytes);
    if ((code = ask(s, COMMAND_ACCEPT_PROCESSED, &fields)) != FASTQ_OK) {
        return code;
    }
    if (is_open(u, message->number, message->life)) {
        close_delivery(u, message->number);
    }
    if (processed != NULL && next_answer(s, &position, &answer, &length)) {
        *processed = (fastq_processed){.is_first = number_of(answer, length, FIELD_CREATED) != 0, .was_late = number_of(answer, length, FIELD_LATE) != 0};
        (void)bytes_of(answer, length, FIELD_PROCESSED_RESULT, &processed->result, &processed->result_bytes);
    }
    return FASTQ_OK;
}

int fastq_accept_processed(fastq_connection connection, fastq_subscription subscription, const fastq_message *message, const char *key, const void *result, size_t bytes, fastq_processed *processed) {
    struct session *s;
    if (message == NULL || key == NULL || (result == NULL && bytes > 0)) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_accept_processed needs a message, a key, and a result or 0 bytes of it");
    }
    if (bytes > MAX_RESULT_BYTES) {
        return fail(FASTQ_TOO_LARGE, MAX_RESULT_BYTES, "The result has %zu bytes, at most %d are kept", bytes, MAX_RESULT_BYTES);
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    struct subscription *u = of_handle(s, subscription);
    return leave(connection, u == NULL ? fail_closed() : accept_processed(s, u, message, key, result, bytes, processed));
}

int fastq_find_processed(fastq_connection connection, const char *queue, const char *key, const unsigned char **result, size_t *bytes) {
    struct session *s;
    unsigned char room[512];
    struct field_writer fields = {.room = room, .size = sizeof room};
    const unsigned char *answer;
    size_t position = 0, length;
    if (queue == NULL || key == NULL || result == NULL || bytes == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_find_processed needs the name of a queue, a key, and room for the result and its length");
    }
    put_text(&fields, FIELD_PROCESSED_KEY, key);
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    *result = NULL;
    *bytes = 0;
    code = ask_of(s, COMMAND_FIND_PROCESSED, queue, &fields);
    if (code == FASTQ_OK && next_answer(s, &position, &answer, &length)) {
        (void)bytes_of(answer, length, FIELD_PROCESSED_RESULT, result, bytes);
    }
    return leave(connection, code);
}
