// Ring A: numbered records and control records, the room for them, and what is confirmed of them.
#include <stdlib.h>

#include "session.h"

static size_t needed_for(size_t length) { return align8(length) + sizeof(struct control_record); }

static bool has_room(struct session *s, size_t length) { return room_in(writing(s)) >= (int64_t)needed_for(length) && has_mark_room(writing(s)); }

static bool fits_in_ring(struct session *s, size_t length) { return needed_for(length) <= (uint64_t)writing(s)->a_bytes * 3 / 4; }

int ensure_room(struct session *s, size_t length) { return has_room(s, length) ? FASTQ_OK : make_room(s, length, 0, 0); }

/// The ring is full, or too small, or something does not fit at all.
int make_room(struct session *s, size_t length, size_t body_bytes, size_t property_bytes) {
    enum { FULL_WAITS_BEFORE_GROWTH = 8 };
    if (body_bytes > s->max_message_bytes) {
        return fail(FASTQ_TOO_LARGE, s->max_message_bytes, "The body has %zu bytes, the broker takes %llu", body_bytes, (unsigned long long)s->max_message_bytes);
    }
    if (property_bytes > MAX_PROPERTY_BYTES) {
        return fail(FASTQ_TOO_LARGE, MAX_PROPERTY_BYTES, "Properties and headers have %zu bytes, at most %d are taken", property_bytes, MAX_PROPERTY_BYTES);
    }
    int code = FASTQ_OK;
    if (fits_in_ring(s, length) && ++s->full_waits >= FULL_WAITS_BEFORE_GROWTH && (uint64_t)writing(s)->a_bytes * 2 <= MAX_LOAD_RING_BYTES) {
        s->full_waits = 0;
        code = grow_rings(s, (uint64_t)writing(s)->a_bytes * 2);
    }
    free_read(s);
    if (code != FASTQ_OK || (fits_in_ring(s, length) && has_room(s, length))) {
        return code;
    }
    // Once full, come back when a quarter is free, not for each record.
    while (!fits_in_ring(s, length) || !has_room(s, length) || room_in(writing(s)) < writing(s)->a_bytes / 4) {
        bool news;
        // Again when the broker died with our asking, or had no memory left.
        code = !fits_in_ring(s, length) && writing(s) == reading(s) ? grow_rings(s, ring_for(needed_for(length))) : wait_for_news(s, FOR_EVER, &news);
        if (code != FASTQ_OK) {
            return code;
        }
        free_read(s);
    }
    return FASTQ_OK;
}

/// Gives back the room of what the broker has read and confirmed.
void free_read(struct session *s) {
    struct pair *current = reading(s);
    uint64_t written = load(current->b, BROKER_WRITTEN), durable = load(current->b, BROKER_DURABLE), read = load(current->b, BROKER_SUBMISSION_POSITION);
    if (durable > s->durable_seen) {
        s->durable_seen = durable;
    }
    for (int i = s->link.pair_count; i-- > 0;) {
        struct pair *pair = s->link.pairs[i];
        // What the broker has not moved to is not read; what it has moved away from is, to its end.
        free_confirmed(pair, i == s->link.reading ? read : i > s->link.reading ? 0 : UINT64_MAX, written, durable);
        if (i < s->link.reading && pair->first_mark == pair->end_mark) {
            unmap_pair(pair);
            memmove(s->link.pairs + i, s->link.pairs + i + 1, (size_t)(--s->link.pair_count - i) * sizeof *s->link.pairs);
            s->link.reading--;
        }
    }
}

/// A numbered record stands at the ring's head: shows it, and rings if the broker sleeps.
uint64_t commit_numbered(struct session *s, size_t length, int level) {
    uint64_t number = s->next_number++;
    commit_record(writing(s), length, number, level);
    ring_broker(s);
    return number;
}

void write_control(struct session *s, struct control_record record) {
    record.length = sizeof record;
    struct pair *pair = writing(s);
    memcpy(next_record(pair), &record, sizeof record);
    commit_record(pair, sizeof record, s->next_number - 1, FASTQ_NONE);
}

int send_control(struct session *s, struct control_record record) {
    int code = ensure_room(s, sizeof record);
    if (code == FASTQ_OK) {
        write_control(s, record);
        ring_broker(s);
    }
    return code;
}

int send_settle(struct session *s, struct settle_record record, int level, const unsigned char *words, size_t word_bytes, uint64_t *number) {
    size_t length = sizeof record + word_bytes;
    int code = ensure_room(s, length);
    if (code != FASTQ_OK) {
        return code;
    }
    record.length = (uint32_t)length;
    record.number = s->next_number;
    unsigned char *room = next_record(writing(s));
    memcpy(room, &record, sizeof record);
    if (word_bytes > 0) {
        memcpy(room + sizeof record, words, word_bytes);
    }
    // Nobody may wait for it, yet it must survive the broker's death: it is kept until it is written.
    *number = commit_numbered(s, length, level == FASTQ_NONE ? FASTQ_WRITTEN : level);
    return FASTQ_OK;
}

int send_command(struct session *s, uint16_t kind, const unsigned char *fields, size_t length, int level, uint64_t *number) {
    int code = ensure_room(s, sizeof(struct command_record) + length);
    if (code != FASTQ_OK) {
        return code;
    }
    struct command_record record = {.length = (uint32_t)(sizeof record + length), .kind = KIND_COMMAND, .flags = (uint8_t)level, .command = kind, .number = s->next_number};
    unsigned char *room = next_record(writing(s));
    memcpy(room, &record, sizeof record);
    if (length > 0) {
        memcpy(room + sizeof record, fields, length);
    }
    *number = commit_numbered(s, record.length, level);
    return FASTQ_OK;
}

/// The highest number that is confirmed at a level: it and all before it, but for those that were refused.
int confirmed(struct session *s, int level, uint64_t *number) {
    static const size_t counters[] = {[FASTQ_ACCEPTED] = BROKER_DECIDED, [FASTQ_WRITTEN] = BROKER_WRITTEN, [FASTQ_DURABLE] = BROKER_DURABLE};
    uint64_t reached = level == FASTQ_NONE ? UINT64_MAX : load(reading(s)->b, counters[level]);
    uint64_t decided = load(reading(s)->b, BROKER_DECIDED);
    int code = drain(s); // A refusal stands in the ring before a counter passes it.
    if (code == FASTQ_OK && s->sent != NULL) {
        take_decided(s, decided);
    }
    *number = level == FASTQ_DURABLE && s->durable_seen > reached ? s->durable_seen : reached;
    return code;
}

int flush_all(struct session *s, int level, int64_t wait_ns) {
    int64_t deadline = deadline_in(wait_ns);
    int code = flush_all_settles(s);
    uint64_t reached = 0, last = s->next_number - 1;
    if (code == FASTQ_OK && level == FASTQ_DURABLE && last > 0 && (code = confirmed(s, level, &reached)) == FASTQ_OK && reached < last) {
        code = send_command(s, COMMAND_SYNC, NULL, 0, FASTQ_DURABLE, &last); // Somebody waits for everything to be durable now; by itself a sync follows within 100 ms.
    }
    while (code == FASTQ_OK && level != FASTQ_NONE && last > 0 && (code = confirmed(s, level, &reached)) == FASTQ_OK && reached < last) {
        bool news;
        code = wait_for_news(s, deadline, &news);
        if (code == FASTQ_OK && !news) {
            return fail(FASTQ_TIMED_OUT, 0, "Not everything was confirmed in time: %llu of %llu", (unsigned long long)reached, (unsigned long long)last);
        }
    }
    return code;
}
