// The broker is gone, or ended the session. What was not confirmed stands in the outboxes; it is copied into the new ring under the same
// numbers, and the broker drops what it has decided already. Subscriptions are resumed: what is in hand stays ours while its lease runs.
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "session.h"

/// To come back would end in the same way.
static int stay_away_if_sent(struct session *s) {
    switch (s->farewell_code) {
        case FASTQ_RING_VIOLATION:
        case FASTQ_OUT_OF_ORDER:
        case FASTQ_UNKNOWN_RECORD:
        case FASTQ_FENCED:
        case FASTQ_LIMIT_REACHED:
            s->is_closed = true;
            return fail(s->farewell_code, 0, "%s", s->farewell);
        default:
            return FASTQ_OK;
    }
}

/// Runs that are still being handed out hold nothing of the old ring; their place in it is no matter any more.
static void forget_runs_in_ring(struct session *s) {
    while (s->first_run != NULL) {
        struct run *run = s->first_run;
        s->first_run = run->next_in_ring;
        run->is_listed = false;
        if (run->is_over) {
            free_run(s, run);
        }
    }
    s->last_run = NULL;
}

/// Connects again, within the patience, and goes over to the new rings. The old ones stay for what is to be sent again.
static int connect_again(struct session *s, const struct link *old, int64_t deadline) {
    struct link made;
    bool is_there = false;
    while (!is_there) {
        int code = try_connect(s, &made, s->durable_seen, old->pairs[old->pair_count - 1]->a_bytes, old->pairs[old->reading]->b_bytes, deadline, &is_there);
        if (code != FASTQ_OK) {
            return code;
        }
        if (!is_there && !pause_until(deadline)) {
            return s->farewell_code != 0
                ? fail(FASTQ_DISCONNECTED, 0, "%s (the broker's last word: %s)", fastq_last_error(), s->farewell)
                : fail(FASTQ_DISCONNECTED, 0, "%s", fastq_last_error());
        }
    }
    s->reconnects++;
    s->link = made;
    keep_all_slots(s);
    s->published_position = 0;
    memset(s->seen, 0, sizeof s->seen);
    s->is_growing = false;
    s->slots_to_acknowledge = 0;
    forget_runs_in_ring(s);
    return watch_link(s);
}

static struct resuming *find_resuming(struct session *s, uint64_t number) {
    for (size_t i = 0; i < s->resuming_count; i++) {
        if (s->resuming[i].number == number) {
            return &s->resuming[i];
        }
    }
    return NULL;
}

/// *is_gone: the broker went away again.
static int resend_one(struct session *s, const unsigned char *record, const struct record_prefix *prefix, bool *is_gone) {
    enum { LOOKS_BETWEEN = 256 };
    uint64_t number;
    memcpy(&number, record + sizeof *prefix, sizeof number);
    if (prefix->kind == KIND_TRANSACTION) { // It is kept for the last of its numbers, as it was.
        struct transaction_header header;
        memcpy(&header, record, sizeof header);
        number += header.count - 1;
    }
    number = prefix->kind == KIND_REPLY ? s->next_number - 1 : number; // It has none: it is kept until all is written that is sent again.
    int level = prefix->kind == KIND_REPLY ? FASTQ_WRITTEN : prefix->flags & CONFIRM_MASK;
    level = level == FASTQ_NONE && prefix->kind != KIND_MESSAGE ? FASTQ_WRITTEN : level;
    for (int looks = 1; room_in(writing(s)) < (int64_t)(align8(prefix->length) + 2 * sizeof(struct control_record)) || !has_mark_room(writing(s)); looks++) {
        if (align8(prefix->length) + 2 * sizeof(struct control_record) > writing(s)->a_bytes) {
            return fail(FASTQ_LIMIT_REACHED, writing(s)->a_bytes, "The broker came back with rings that are too small for what was not confirmed");
        }
        sched_yield(); // The new ring is as large as the old one: the broker reads it as we go.
        int code = drain(s); // It reads no further while refusals wait for room.
        if (code != FASTQ_OK) {
            return code;
        }
        free_read(s);
        bool any;
        if (looks % LOOKS_BETWEEN == 0 && ((code = read_socket(s, &any, is_gone)) != FASTQ_OK || *is_gone)) {
            return code;
        }
    }
    unsigned char *again = next_record(writing(s));
    memcpy(again, record, prefix->length);
    uint16_t command = prefix->small;
    const struct resuming *resuming = prefix->kind == KIND_COMMAND && command == COMMAND_RESUME_SUBSCRIPTION ? find_resuming(s, number) : NULL;
    if (resuming != NULL) {
        // An earlier connection's word: since then more was handed out, which is not to be given back. The fields are always of one length.
        write_resume(resuming->subscription, resuming->id, again + sizeof(struct command_record), prefix->length - sizeof(struct command_record));
    }
    commit_record(writing(s), prefix->length, number, level);
    ring_broker(s);
    s->resent++;
    return FASTQ_OK;
}

/// Copies what was not confirmed from the old rings, in order, under the same numbers.
static int resend(struct session *s, const struct link *old, bool *is_gone) {
    *is_gone = false;
    for (int i = 0; i < old->pair_count; i++) {
        const struct pair *pair = old->pairs[i];
        for (uint64_t at = pair->freed; at < pair->head;) {
            const unsigned char *record = pair->a_ring + (at & (pair->a_bytes - 1));
            struct record_prefix prefix;
            memcpy(&prefix, record, sizeof prefix);
            int code = prefix.kind < KIND_CREDIT && prefix.kind != KIND_REPLIES_UNWANTED ? resend_one(s, record, &prefix, is_gone) : FASTQ_OK;
            if (code != FASTQ_OK || *is_gone) {
                return code;
            }
            at += align8(prefix.length);
        }
    }
    return FASTQ_OK;
}

static int remember_resuming(struct session *s, uint64_t number, struct subscription *u) {
    if (!grow((void **)&s->resuming, &s->resuming_size, s->resuming_count, sizeof *s->resuming)) {
        return FASTQ_NO_MEMORY;
    }
    s->resuming[s->resuming_count++] = (struct resuming){.number = number, .subscription = u, .id = u->id};
    return FASTQ_OK;
}

/// Says that a subscription is still ours; the answer comes with the others.
static int resume(struct session *s, struct subscription *u) {
    unsigned char fields[128];
    uint64_t number;
    int code = send_command(s, COMMAND_RESUME_SUBSCRIPTION, fields, write_resume(u, u->id, fields, sizeof fields), FASTQ_WRITTEN, &number);
    return code != FASTQ_OK ? code : remember_resuming(s, number, u);
}

/// Holds on to the old link, so that a later call may try again.
static int go_back(struct session *s, const struct link *old, int code) {
    close_link(&s->link);
    s->link = *old;
    return code;
}

int reconnect(struct session *s) {
    int code = stay_away_if_sent(s);
    if (code != FASTQ_OK || (code = drain(s)) != FASTQ_OK) { // The old ring B is still ours to read.
        return code;
    }
    for (struct subscription *u = s->subscriptions; u != NULL; u = u->next) {
        give_up_runs(s, u); // What was not handed out goes back uncounted, and comes again: an orderly stop has given it back already.
    }
    publish_position(s);
    free_read(s);
    s->reserved_length = 0;
    say(s, "The broker at %s is gone; connecting again", s->path);
    int64_t deadline = deadline_in(s->patience_ns);
    uint64_t claimed = s->durable_seen; // Before the resend: the new counters soon pass what the broker knew.
    struct link old = s->link;
    // Out of the event loop's sight: a socket that hung up stays readable.
    epoll_ctl(s->event, EPOLL_CTL_DEL, old.socket, NULL);
    epoll_ctl(s->event, EPOLL_CTL_DEL, old.pipe, NULL);
    bool is_gone = true;
    while (is_gone) {
        if ((code = connect_again(s, &old, deadline)) != FASTQ_OK) {
            if (s->link.socket != old.socket) {
                return go_back(s, &old, code);
            }
            watch_link(s); // Readable again: whoever waits by it looks again.
            return code;
        }
        if ((code = resend(s, &old, &is_gone)) != FASTQ_OK) {
            return go_back(s, &old, code);
        }
        if (is_gone) { // What was to be sent again still stands in the old rings.
            go_back(s, &old, FASTQ_OK);
            if ((code = stay_away_if_sent(s)) != FASTQ_OK) {
                return code;
            }
        }
    }
    lose_words(s);
    uint64_t known = s->resumed_at - 1;
    close_link(&old);
    say(s, "The broker is back; %llu submissions were sent again so far", (unsigned long long)s->resent);
    if (claimed > known) {
        return fail(FASTQ_DATA_LOST, known, "Submission %llu was confirmed as durable, the broker knows %llu", (unsigned long long)claimed, (unsigned long long)known);
    }
    for (struct subscription *u = s->subscriptions; u != NULL && code == FASTQ_OK; u = u->next) {
        if (u->is_listed && !u->is_closing) { // One whose end is sent already would be made anew.
            code = resume(s, u);
        }
    }
    return code;
}

/// What was in hand has gone to others: settling it is answered as late by nobody, so it is not sent.
static int subscribe_anew(struct session *s, struct subscription *u) {
    give_up_runs(s, u);
    restart_subscription(u, u->id, 1);
    unsigned char fields[128];
    uint64_t number;
    int code = send_command(s, COMMAND_SUBSCRIBE, fields, write_subscribe(u, fields, sizeof fields), FASTQ_WRITTEN, &number);
    return code != FASTQ_OK ? code : remember_resuming(s, number, u);
}

/// An answer that nobody waits for: that of a resumed subscription. One that the broker does not know any more is made anew.
int take_resume_answer(struct session *s, const struct answer_record *answer, const unsigned char *payload, size_t length) {
    struct resuming *found = find_resuming(s, answer->number);
    if (found == NULL) {
        return FASTQ_OK;
    }
    struct resuming asked = *found;
    *found = s->resuming[--s->resuming_count];
    struct subscription *u = asked.subscription;
    if (!u->is_listed || u->is_closing || u->id != asked.id) {
        return FASTQ_OK; // It has ended, or was made anew meanwhile, by what was sent before this.
    }
    if (answer->code == 0) {
        uint32_t id = (uint32_t)number_of(payload, length, FIELD_SUBSCRIPTION);
        if (id != u->id) {
            give_up_runs(s, u);
            restart_subscription(u, id, number_of(payload, length, FIELD_FIRST_DELIVERY));
        }
        return FASTQ_OK;
    }
    if (answer->code == FASTQ_UNKNOWN_SUBSCRIPTION) {
        return subscribe_anew(s, u);
    }
    end_subscription(s, u, answer->code);
    return FASTQ_OK;
}
