// Commands: one at a time, each waits for its answer. One whose answer was lost with the broker is asked again.
#include <stdlib.h>

#include "session.h"

/// Adds one payload to the answers: its length, then itself, padded.
static int keep_answer(struct session *s, const unsigned char *payload, size_t length) {
    static const unsigned char padding[8];
    uint64_t bytes = length;
    int code = buffer_add(&s->answers, &bytes, sizeof bytes);
    code = code != FASTQ_OK ? code : buffer_add(&s->answers, payload, length);
    return code != FASTQ_OK ? code : buffer_add(&s->answers, padding, align8(length) - length);
}

bool next_answer(const struct session *s, size_t *position, const unsigned char **fields, size_t *length) {
    if (*position >= s->answers.length) {
        return false;
    }
    uint64_t bytes;
    memcpy(&bytes, s->answers.at + *position, sizeof bytes);
    *fields = s->answers.at + *position + sizeof bytes;
    *length = bytes;
    *position += sizeof bytes + align8(bytes);
    return true;
}

int take_answer(struct session *s, const unsigned char *record, size_t length) {
    struct answer_record answer;
    if (length < sizeof answer) {
        return FASTQ_OK;
    }
    memcpy(&answer, record, sizeof answer);
    const unsigned char *payload = record + sizeof answer;
    length -= sizeof answer;
    if (answer.number != s->awaited || s->is_answered) {
        return take_resume_answer(s, &answer, payload, length);
    }
    int code = keep_answer(s, payload, length);
    if (code != FASTQ_OK || (answer.flags & ANSWER_MORE) != 0) {
        return code;
    }
    s->answer_code = answer.code;
    s->answer_value = answer.value;
    s->is_answered = true;
    if (answer.code == 0 && s->subscribing != NULL) {
        begin_subscription(s, payload, length);
    }
    return FASTQ_OK;
}

/// Waits until the command is answered, or its answer was lost with the broker.
static int await_answer(struct session *s) {
    uint64_t reconnects = s->reconnects;
    int code = FASTQ_OK;
    while (code == FASTQ_OK && !s->is_answered && (s->reconnects == reconnects || s->awaited >= s->resumed_at)) {
        bool news;
        code = wait_for_news(s, FOR_EVER, &news);
    }
    return code;
}

static int refused_text(struct session *s) {
    const unsigned char *fields, *text = NULL;
    size_t position = 0, length, bytes = 0;
    while (next_answer(s, &position, &fields, &length)) {
        if (!bytes_of(fields, length, FIELD_TEXT, &text, &bytes)) {
            bytes = 0;
        }
    }
    return fail(s->answer_code, s->answer_value, "%.*s", (int)bytes, bytes > 0 ? (const char *)text : "");
}

/// Sends a command and waits for its answer, which then stands in the session's answers.
int ask(struct session *s, uint16_t kind, const struct field_writer *fields) {
    if (fields->has_overflowed) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "The command does not fit in its record: a name or an attribute is too long");
    }
    bool is_repeated = false;
    int flushed = flush_all_settles(s); // What was settled before it is settled when it is answered.
    if (flushed != FASTQ_OK) {
        return flushed;
    }
    do {
        s->answers.length = 0;
        s->is_answered = false;
        s->awaited = 0;
        int code = ensure_room(s, sizeof(struct command_record) + fields->length);
        if (code == FASTQ_OK) {
            code = send_command(s, kind, fields->room, fields->length, FASTQ_WRITTEN, &s->awaited);
        }
        if (code != FASTQ_OK || (code = await_answer(s)) != FASTQ_OK) {
            s->awaited = 0;
            return code;
        }
        is_repeated |= !s->is_answered;
    } while (!s->is_answered);
    bool was_done = is_repeated && kind == COMMAND_DELETE_QUEUE && (s->answer_code == FASTQ_UNKNOWN_QUEUE || s->answer_code == FASTQ_QUEUE_DELETED);
    return s->answer_code == 0 || was_done ? FASTQ_OK : refused_text(s);
}

int find_queue(struct session *s, const char *name, uint32_t *queue) {
    unsigned char room[512];
    struct field_writer fields = {.room = room, .size = sizeof room};
    put_text(&fields, FIELD_NAME, name);
    int code = ask(s, COMMAND_SHOW_QUEUE, &fields);
    if (code == FASTQ_OK) {
        const unsigned char *answer;
        size_t position = 0, length;
        bool is_there = next_answer(s, &position, &answer, &length);
        *queue = is_there ? (uint32_t)number_of(answer, length, FIELD_QUEUE) : 0;
        code = is_there ? note_lz4(s, *queue, answer, length) : FASTQ_OK;
    }
    return code;
}
