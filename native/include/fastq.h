/*
 * libfastq: the client of the FastQ broker for every language that can call C.
 *
 *   fastq_connection c;  fastq_queue work;  fastq_subscription s;  fastq_message m;  size_t came;
 *   fastq_connect(NULL, "name=demo", &c);
 *   fastq_declare_queue(c, "work", NULL, NULL);
 *   fastq_open_queue(c, "work", &work);
 *   fastq_publish(c, work, "hello", 5, NULL, 0, FASTQ_DURABLE, NULL);
 *   fastq_flush(c, FASTQ_DURABLE, -1);                            (it is on the disk)
 *   fastq_subscribe(c, "work", NULL, &s);
 *   fastq_receive(c, s, &m, 1, 1000000000, &came);                (m.body lies where the broker wrote it)
 *   fastq_settle(c, s, &m, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL);
 *   fastq_close(c);
 *
 * Errors. A function that can fail returns 0 (FASTQ_OK) or a code: a refusal of fastq_codes.h, or one of enum fastq_error. No function throws,
 * aborts or prints. fastq_last_error says in words what, where and what to do. Pointers to results may be NULL where a function says so.
 *
 * Threads. Calls of different connections may run at once. Of one connection one call may run at a time, of whatever thread: a second one
 * answers FASTQ_BUSY and does nothing. The library starts no thread and installs no signal handler.
 *
 * Restarts of the broker are ridden out within `patience`: what was not confirmed is sent again under its number, which the broker takes once;
 * subscriptions go on. A call that finds the broker away waits for it, longer than its own time-out if it must; fastq_is_connected tells before.
 *
 * fork. In the child every handle answers FASTQ_FORKED; the child has none of its parent's memory, holds none of its sockets, and may connect
 * anew. A handle of a connection that was closed answers FASTQ_IS_CLOSED, always: handles are never used again.
 *
 * Memory. What a function gives a pointer to belongs to the library, for as long as the function says. The library keeps no pointer of the
 * caller's beyond the call, save the log callback's. After fastq_connect, and once its tables have the size that the program's use of it
 * wants, publishing, receiving and settling allocate nothing.
 *
 * Times: names end in _ns, _ms, _us (nano-, milli-, microseconds). A wait of a negative time is for ever. Wall times are us since 1970 UTC.
 */
#ifndef FASTQ_H
#define FASTQ_H

#include <stddef.h>
#include <stdint.h>

#include "fastq_codes.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FASTQ_API __attribute__((visibility("default")))
#else
#define FASTQ_API
#endif

/* Changes when a program that was compiled with an older header would not run with this library. */
#define FASTQ_ABI 1u

/* What the library itself reports, beside the refusals of fastq_codes.h. */
enum fastq_error {
    FASTQ_OK = 0,
    FASTQ_FORKED = 1001,        /* This process is a fork of the one that connected: connect anew. */
    FASTQ_BUSY = 1002,          /* Another thread is in a call of this connection. */
    FASTQ_IS_CLOSED = 1003,     /* No open connection or subscription has this handle. */
    FASTQ_NO_MEMORY = 1004,     /* The system gave no memory. */
    FASTQ_SYSTEM = 1005,        /* A system call failed; the text names it and errno. */
    FASTQ_WRONG_ABI = 1006,     /* The program was compiled for another ABI than the library has. */
    FASTQ_UNREADABLE = 1007     /* A body cannot be decoded; the message may be settled all the same. */
};

/* Confirm levels: what is waited for. */
enum fastq_level {
    FASTQ_NONE = 0,             /* Nothing is promised. */
    FASTQ_ACCEPTED = 1,         /* The broker has taken it, in memory. */
    FASTQ_WRITTEN = 2,          /* The file system has it: it survives kill -9 of the broker. */
    FASTQ_DURABLE = 3           /* A sync that covers it has returned: it survives power loss. */
};

enum fastq_publish_flags {
    FASTQ_OPTIONAL = 4,         /* With the level of a message to an exchange: that it reaches no queue is fine. */
    FASTQ_COUNTED = 8           /* Likewise: fastq_routed is to tell how many queues took it. */
};

enum fastq_binding_flags {
    FASTQ_ANY_HEADER = 1,       /* One of the binding's headers is enough; else a message must have all. */
    FASTQ_TO_EXCHANGE = 2       /* The target is another exchange, not a queue. */
};

enum fastq_request_flags {
    FASTQ_WAITS_FOR_RESPONDER = 1 /* Where the queue has no consumer, the request waits for one. Else FASTQ_NO_RESPONDER. */
};

enum fastq_reply_flags {
    FASTQ_LAST = 1,             /* No other comes after it. */
    FASTQ_FAILED = 2,           /* The request failed: the body says why in words, the property FASTQ_TYPE, if it is there, in one for programs. */
    FASTQ_END = 4               /* The end of an answer in parts, and no part itself. */
};

enum fastq_outcome {
    FASTQ_ACCEPT = 0,           /* Done: the message is gone for good. */
    FASTQ_RELEASE = 1,          /* Again, to anybody, at its place in the queue. */
    FASTQ_REJECT = 2            /* Never again: it goes to the dead letters. */
};

enum fastq_settle_flags {
    FASTQ_UNCOUNTED = 1         /* With FASTQ_RELEASE: the delivery is as if it had not been. */
};

enum fastq_message_flags {
    FASTQ_REDELIVERED = 1,      /* Delivered before. */
    FASTQ_ENCODED = 2           /* The sender's library compressed the body: fastq_body_size, fastq_copy_body. */
};

/* Handles; 0 is none. Plain numbers below 2^53. */
typedef uint64_t fastq_connection;
typedef uint64_t fastq_subscription;
typedef uint64_t fastq_transaction;
typedef uint32_t fastq_queue;   /* The broker's number of a queue or an exchange, good in every connection; never used again. */

/* A message in the hands of this consumer, under a lease. Its pointers are good until it is settled, its subscription ends, or, with the
 * option auto, until the next fastq_receive. fastq_holds tells whether it is still in hand. */
typedef struct fastq_message {
    uint64_t number;                  /* Of the delivery: dense in its subscription. */
    uint64_t tag;                     /* The message's place in its queue, the same for life: its id. */
    uint64_t token;                   /* Fencing token, with fastq_status.epoch before it: only rises for a message. */
    int64_t time_us;                  /* When the broker took it. */
    const unsigned char *body;        /* As it is stored: see FASTQ_ENCODED. */
    const unsigned char *properties;  /* For fastq_next_property. */
    uint32_t body_bytes;
    uint16_t property_bytes;
    uint16_t delivery_count;          /* This time included; 65,535 when more. */
    uint32_t flags;                   /* enum fastq_message_flags. */
    uint32_t life;                    /* The library's: which of a subscription's lives `number` belongs to. */
} fastq_message;

/* One property of a message. Pointers are into the properties. */
typedef struct fastq_property {
    uint32_t tag;                     /* enum fastq_property_tag; 0: there is none. */
    uint32_t type;                    /* enum fastq_property_type. */
    const char *key;                  /* Of a header: UTF-8, without a terminator. Else NULL. */
    size_t key_bytes;
    const unsigned char *value;       /* In the form of its type; unaligned; text without a terminator. */
    size_t value_bytes;
} fastq_property;

/* A message as it stands in its queue. Pointers are good until the next call of the connection. */
typedef struct fastq_browsed {
    uint64_t tag;                     /* Its place, as in fastq_message. */
    int64_t time_us;                  /* When the broker took it; 0: not known (it has rotted). */
    int64_t due_us;                   /* Of a delayed one: when it is ready. Else 0. */
    int64_t lease_left_ms;            /* In flight. Else 0. */
    uint64_t whole_body_bytes;
    const unsigned char *body;        /* Its first bytes, 8,192 at most, as stored; NULL: not shown. */
    const unsigned char *properties;
    const char *owner;                /* In flight: who holds it; UTF-8, without a terminator. Else NULL. */
    uint32_t body_bytes;
    uint32_t property_bytes;
    uint32_t owner_bytes;
    uint32_t state;                   /* enum fastq_state. */
    uint32_t delivery_count;
    uint32_t reason;                  /* Of one on its way to the dead letters: enum fastq_reason. Else why it came back last: enum fastq_release_reason; 0: it did not. */
    uint32_t stopped;                 /* 1: it has gone in a circle, and stays. */
    uint32_t behind;                  /* 1: another of its group comes first. */
} fastq_browsed;

/* A reply to a request, or a part of one. Pointers are good until the connection's next fastq_receive_reply. */
typedef struct fastq_reply {
    const unsigned char *body;
    const unsigned char *properties;
    uint32_t body_bytes;
    uint32_t property_bytes;
    uint32_t part;                    /* From 0 on. */
    uint32_t flags;                   /* enum fastq_reply_flags. */
} fastq_reply;

/* What became of marking something as processed. */
typedef struct fastq_processed {
    const unsigned char *result;      /* Of the first who marked it; good until the next call of the connection. */
    size_t result_bytes;
    uint32_t is_first;                /* 1: nobody had marked it before. */
    uint32_t was_late;                /* 1: the message was not in hand any more; it is marked all the same. */
} fastq_processed;

/* What became of a submission that the broker did not take. */
typedef struct fastq_refusal {
    uint64_t number;                  /* Of the submission; 0: there is none. */
    uint64_t value;                   /* The limit that is meant, or the place of the first one (FASTQ_DUPLICATE); else 0. */
    int code;
    char text[256];                   /* Words of the broker's, cut to fit; may be empty. */
} fastq_refusal;

/* How a connection stands. Set size to sizeof(fastq_status) before the call; later versions add fields at the end. */
typedef struct fastq_status {
    size_t size;
    uint64_t epoch;                   /* The broker's life: the first half of fencing tokens. */
    uint64_t producer;                /* The broker's number of this connection's submissions. */
    uint64_t last_number;             /* Of the last submission. */
    uint64_t reconnects;              /* How often the broker was lost and found again. */
    uint64_t resent;                  /* Submissions that were sent again. */
    uint64_t duplicates;              /* Messages that were not taken as their queue had them already. */
    uint64_t refusals;                /* Refusals that were taken and not told yet. */
    uint64_t max_message_bytes;       /* Largest body that the broker takes. */
    uint64_t ring_bytes;              /* Of the ring that submissions are written to now. */
} fastq_status;

/* ---- The library */

/* The library's version, as "0.1.0". Any thread. */
FASTQ_API const char *fastq_version(void);

/* The library's FASTQ_ABI. Any thread. */
FASTQ_API uint32_t fastq_abi(void);

/* The name of a code as scripts see it, as "unknown-queue"; "unknown" for a number that is none. Any thread. */
FASTQ_API const char *fastq_code_name(int code);

/* The calling thread's last error: its code, its words (never NULL; until the thread's next call), and the limit or place that the broker
 * named with it (else 0). A call that succeeds leaves them as they are. */
FASTQ_API int fastq_last_code(void);
FASTQ_API const char *fastq_last_error(void);
FASTQ_API uint64_t fastq_last_value(void);

/* ---- Connections */

/* Connects, waiting for the broker within `patience`. Use fastq_connect, which passes this header's ABI number.
 * path: the broker's socket; NULL or "": FASTQ_SOCKET, else $XDG_RUNTIME_DIR/fastq.sock, else /tmp/fastq-UID/fastq.sock.
 * options: NULL, or lines of key=value: name=TEXT (shown to operators), patience=DURATION (30s; 0s: do not wait), ring=BYTES (of each ring: a
 * power of two from 65536 on; 262144), copies (no slot files: messages come as copies), verify (check every message, not only cold ones).
 * A DURATION is a number with ms, s, m, h or d. Errors: FASTQ_DISCONNECTED, FASTQ_VERSION_MISMATCH, FASTQ_WRONG_ABI, FASTQ_BAD_ARGUMENT. */
FASTQ_API int fastq_open(uint32_t abi, const char *path, const char *options, fastq_connection *connection);
#define fastq_connect(path, options, connection) fastq_open(FASTQ_ABI, path, options, connection)

/* Closes: gives back what is in hand, waits up to 5 s for what was sent to be written. The handle is closed whatever this returns, save after
 * FASTQ_BUSY; an error says that something may not have arrived. In a forked child it frees what the child has. */
FASTQ_API int fastq_close(fastq_connection connection);

/* Fills in how the connection stands. */
FASTQ_API int fastq_get_status(fastq_connection connection, fastq_status *status);

/* FASTQ_OK: the broker is there. FASTQ_DISCONNECTED: it hung up, and the next call that waits connects again. Never waits. */
FASTQ_API int fastq_is_connected(fastq_connection connection);

/* Takes what has come and connects again if the broker is away. For programs that work on a message for long: without a call a library
 * without a thread does not come back to a restarted broker, which then holds deliveries for their lease only. Does not wait otherwise. */
FASTQ_API int fastq_tick(fastq_connection connection);

/* Told, in the calls of a connection and on their thread, what happens to it: lost, found again, ended by the broker. NULL: nobody is told.
 * The callback must not call the library with this connection. text is good during the call. */
typedef void (*fastq_log)(void *context, const char *text);
FASTQ_API int fastq_set_log(fastq_connection connection, fastq_log log, void *context);

/* ---- Event loops */

/* A descriptor, the connection's for its whole life, that is readable when the broker has rung or hung up. For epoll, poll, select; do not
 * read, write or close it. */
FASTQ_API int fastq_descriptor(fastq_connection connection, int *descriptor);

/* Asks the broker to ring when there is news. *ready = 1: there is news already, do not wait. 0: wait for the descriptor; the next call of any
 * other function ends the asking. */
FASTQ_API int fastq_arm(fastq_connection connection, int *ready);

/* ---- Publishing */

/* Finds a queue by its name: 1 to 255 bytes of UTF-8. FASTQ_UNKNOWN_QUEUE: there is none. */
FASTQ_API int fastq_open_queue(fastq_connection connection, const char *name, fastq_queue *queue);

/* Sends a message, compressed if its queue was found here and has lz4: body of `bytes` (NULL with 0), properties as fastq_put_text and its sisters write them (NULL with 0), the level that its
 * sender will wait for. Returns at once, and waits only while the ring is full. number (may be NULL): its submission number, for fastq_wait.
 * Refusals come later: by fastq_wait, fastq_flush or fastq_next_refusal. FASTQ_TOO_LARGE: more than the broker takes. */
FASTQ_API int fastq_publish(fastq_connection connection, fastq_queue queue, const void *body, size_t bytes, const void *properties,
                            size_t property_bytes, int level, uint64_t *number);

/* Sends `count` messages whose bytes stand in a row: of each its properties, then its body. body_bytes: the length of each body;
 * property_bytes: of each one's properties, or NULL: none has any. number (may be NULL): of the last one; the others have the numbers before.
 * After an error *number says how far it came: the last one that was sent, 0: none. */
FASTQ_API int fastq_publish_batch(fastq_connection connection, fastq_queue queue, const void *bytes, const uint32_t *body_bytes,
                                  const uint32_t *property_bytes, size_t count, int level, uint64_t *number);

/* Room for a message in the ring, to be filled in place: *body has `bytes` bytes. To be committed before any other call of the connection;
 * what is not committed then was never there. Waits while the ring is full. */
FASTQ_API int fastq_reserve(fastq_connection connection, fastq_queue queue, size_t bytes, const void *properties, size_t property_bytes,
                            void **body);

/* Sends what was reserved. FASTQ_BAD_ARGUMENT: nothing is. */
FASTQ_API int fastq_commit(fastq_connection connection, int level, uint64_t *number);

/* The highest number that is confirmed at a level: it and all before, but for those that were refused. Never waits. */
FASTQ_API int fastq_confirmed(fastq_connection connection, int level, uint64_t *number);

/* Waits until a submission is confirmed at a level, or was refused: then its code (FASTQ_DUPLICATE: the queue has it, fastq_last_value is its
 * place there; this counts as published). FASTQ_TIMED_OUT: not in time. */
FASTQ_API int fastq_wait(fastq_connection connection, uint64_t number, int level, int64_t wait_ns);

/* Waits until all that was sent, settlements too, is confirmed at a level. Answers with the first refusal that was not told before and drops
 * all of them; duplicates are none. FASTQ_NONE: sends what was gathered and does not wait. */
FASTQ_API int fastq_flush(fastq_connection connection, int level, int64_t wait_ns);

/* How many queues took a message that was sent to an exchange with FASTQ_COUNTED, once it is confirmed; told once, of the last thousand. -1: not
 * known, as a reconnect came between, or it was refused. Never waits. */
FASTQ_API int fastq_routed(fastq_connection connection, uint64_t number, int64_t *queues);

/* Takes the oldest refusal that was not told yet; number 0: there is none. Never waits. Duplicates come here too. */
FASTQ_API int fastq_next_refusal(fastq_connection connection, fastq_refusal *refusal);

/* ---- Properties: written into room of the caller's, one behind the other. *length is what is written so far; begin with 0. They touch no
 * connection. Any thread. FASTQ_TOO_LARGE: the room is too small, or a value or key is too long. */

/* A property of text. */
FASTQ_API int fastq_put_text(void *room, size_t room_bytes, size_t *length, uint32_t tag, const char *text);

/* A number: Delay, Ttl (ms), DeliverAt (us since 1970), Priority (0 to 255), UniqueUntil; its type follows from the tag. */
FASTQ_API int fastq_put_number(void *room, size_t room_bytes, size_t *length, uint32_t tag, int64_t number);

/* A header of the application: key of 1 to 255 bytes, value in the form of its type. */
FASTQ_API int fastq_put_header(void *room, size_t room_bytes, size_t *length, const char *key, uint32_t type, const void *value,
                               size_t value_bytes);

/* Reads properties of any origin: *position begins with 0; property->tag is 0 at the end, and where they are cut short. */
FASTQ_API int fastq_next_property(const void *properties, size_t property_bytes, size_t *position, fastq_property *property);

/* ---- Consuming */

/* Subscribes to a queue. options: NULL, or lines of key=value: credit=N (most messages unsettled at once, 1000), credit-bytes=N (64 MiB),
 * lease=DURATION (the queue's), priority=N (0 to 255: served before lower ones), exclusive (the queue's only consumer, or FASTQ_DENIED), batch=N
 * (settlements of consecutive messages are gathered up to so many, 64), auto (at most once: a message is accepted as it is received). */
FASTQ_API int fastq_subscribe(fastq_connection connection, const char *queue, const char *options, fastq_subscription *subscription);

/* Ends a subscription: what is in hand and what was not received goes back to its place, as if it had not been delivered. */
FASTQ_API int fastq_unsubscribe(fastq_connection connection, fastq_subscription subscription);

/* Changes the credit. 0: no more come. */
FASTQ_API int fastq_set_credit(fastq_connection connection, fastq_subscription subscription, uint32_t messages);

/* Receives up to `most` messages: as soon as one is there, it takes what is there and returns. Waits at most wait_ns; *count 0: none came.
 * Errors: FASTQ_QUEUE_DELETED and others that end the subscription, FASTQ_DISCONNECTED. */
FASTQ_API int fastq_receive(fastq_connection connection, fastq_subscription subscription, fastq_message *messages, size_t most,
                            int64_t wait_ns, size_t *count);

/* Settles a message that is in hand. delay_ms: of a release, so long nobody gets it; 0: as the queue has it. flags: enum fastq_settle_flags.
 * Gathered with its neighbours, and sent at the latest when a call waits or flushes. number (may be NULL): of the submission that carries it,
 * which is sent then at once. The broker's word that it was late (FASTQ_LEASE_LOST, FASTQ_ALREADY_SETTLED) comes by fastq_wait for that number,
 * fastq_flush or fastq_next_refusal. FASTQ_ALREADY_SETTLED at once: it is not in hand any more. */
FASTQ_API int fastq_settle(fastq_connection connection, fastq_subscription subscription, const fastq_message *message, int outcome, int level,
                           int64_t delay_ms, uint32_t flags, uint64_t *number);

/* Settles many alike. Those that are not in hand are passed over and answered with FASTQ_ALREADY_SETTLED at the end. number (may be NULL): of
 * the last submission, sent at once. */
FASTQ_API int fastq_settle_many(fastq_connection connection, fastq_subscription subscription, const fastq_message *messages, size_t count,
                                int outcome, int level, uint64_t *number);

/* Settles the deliveries `first` to `first` + `count` - 1 of a life, as fastq_message has number and life, in one record; those that are not in
 * hand are passed over. At most 1,048,576. number (may be NULL): of the submission, sent at once. FASTQ_ALREADY_SETTLED: none is in hand. */
FASTQ_API int fastq_settle_range(fastq_connection connection, fastq_subscription subscription, uint64_t first, uint64_t count, uint32_t life,
                                 int outcome, int level, uint64_t *number);

/* Rejects with words: reason of at most 512 bytes, details (may be NULL), both together at most 2,040 bytes of UTF-8. Sent at once. */
FASTQ_API int fastq_reject(fastq_connection connection, fastq_subscription subscription, const fastq_message *message, const char *reason,
                           const char *details, int level, uint64_t *number);

/* The lease of a message in hand begins anew with this length: 10 ms to a week. Sent at once. */
FASTQ_API int fastq_extend(fastq_connection connection, fastq_subscription subscription, const fastq_message *message, int64_t lease_ms,
                           int level, uint64_t *number);

/* FASTQ_OK: the message is in hand. FASTQ_ALREADY_SETTLED: it is not, and its pointers must not be looked at. */
FASTQ_API int fastq_holds(fastq_connection connection, fastq_subscription subscription, const fastq_message *message);

/* The length of a message's body, decoded if it is FASTQ_ENCODED. The message must be in hand. FASTQ_UNREADABLE: it cannot be right. */
FASTQ_API int fastq_body_size(const fastq_message *message, size_t *bytes);

/* Copies a message's body, decoded, into room of fastq_body_size bytes. The message must be in hand. */
FASTQ_API int fastq_copy_body(const fastq_message *message, void *room, size_t room_bytes);

/* Copies what messages in hand have, of each its properties and then its body as it is stored, one behind the other. For languages to which a
 * call is dear. *length: how many bytes that is; FASTQ_TOO_LARGE: more than the room has, and nothing was copied. */
FASTQ_API int fastq_copy_messages(const fastq_message *messages, size_t count, void *room, size_t room_bytes, size_t *length);

/* ---- Request and reply. Replies pass through memory alone: while the broker or the requester is away one may be lost, and the request times
 * out. A request is delivered once; who asks again does so knowingly. */

/* Sends a request to a queue: a message with an address for its reply, which expires with its time-out of 1 ms on. properties: without
 * FASTQ_REPLY_TO, FASTQ_TTL and FASTQ_REQUEST. flags: enum fastq_request_flags. Returns at once; *number is for the next two. What becomes of
 * it, a refusal too, is told by fastq_receive_reply alone. To be ended by that or by fastq_end_request. */
FASTQ_API int fastq_request(fastq_connection connection, fastq_queue queue, const void *body, size_t bytes, const void *properties,
                            size_t property_bytes, int64_t timeout_ms, uint32_t flags, uint64_t *number);

/* Waits for the next reply to a request. With FASTQ_LAST, or an error other than FASTQ_TIMED_OUT and FASTQ_DISCONNECTED, the request has ended.
 * FASTQ_TIMED_OUT: none came within wait_ns; FASTQ_NO_RESPONDER: the queue has no consumer, or the one that had the request ended without a
 * reply; FASTQ_UNKNOWN_QUEUE and other refusals of the request. A consumer that rejects it answers so: FASTQ_FAILED, type "rejected". */
FASTQ_API int fastq_receive_reply(fastq_connection connection, uint64_t number, int64_t wait_ns, fastq_reply *reply);

/* Nobody waits for this request any more; what comes is dropped, and its sender is told so. */
FASTQ_API int fastq_end_request(fastq_connection connection, uint64_t number);

/* Answers a message in hand that is a request: its FASTQ_REPLY_TO begins with "fastq.reply.". part: 0 of the first reply, then one more each.
 * With FASTQ_LAST the request is accepted in the same step, and number (may be NULL) is the accept's: FASTQ_NO_REQUESTER of fastq_wait says
 * that it was accepted, but nobody waits for the reply; it is no error of fastq_flush. Without FASTQ_LAST it stays in hand, and number, if it
 * is not NULL, must be waited for: fastq_wait returns when the part is in the requester's ring, so that a slow requester slows its responder,
 * or with FASTQ_NO_REQUESTER, FASTQ_LIMIT_REACHED (more wait for the requester than have room), FASTQ_DISCONNECTED (nobody knows). */
FASTQ_API int fastq_reply_to(fastq_connection connection, fastq_subscription subscription, const fastq_message *message, const void *body,
                             size_t bytes, const void *properties, size_t property_bytes, uint32_t part, uint32_t flags, int level,
                             uint64_t *number);

/* Sends a reply to an address, the text of a request's FASTQ_REPLY_TO, from whatever connection, and settles nothing; number: as for a part. */
FASTQ_API int fastq_send_reply(fastq_connection connection, const char *address, const void *body, size_t bytes, const void *properties,
                               size_t property_bytes, uint32_t part, uint32_t flags, uint64_t *number);

/* ---- Transactions: messages and settlements that take effect together, or not at all, whatever dies when. Gathered in this program's memory
 * until they are committed; the connection may do other things meanwhile. At most 65,536 operations of 16 MiB together, or what the broker
 * takes of a message. With the time that fastq_begin gave them they end by themselves: the next call answers FASTQ_TIMED_OUT. */

/* Begins one. within_ms: it is rolled back when it is not committed within this time; 0: 30 s. Handles as above. */
FASTQ_API int fastq_begin(fastq_connection connection, int64_t within_ms, fastq_transaction *transaction);

/* Adds a message, to a queue or an exchange, as fastq_publish; it is copied. One that its queue has already (FASTQ_DUPLICATE) is passed over.
 * flags: FASTQ_OPTIONAL or 0.
 * FASTQ_TOO_LARGE, FASTQ_LIMIT_REACHED: the transaction is as it was without it. */
FASTQ_API int fastq_add_publish(fastq_connection connection, fastq_transaction transaction, fastq_queue queue, const void *body, size_t bytes,
                                const void *properties, size_t property_bytes, uint32_t flags);

/* Adds a settlement, as fastq_settle. The message stays in hand, under its lease, until the transaction is decided.
 * FASTQ_ALREADY_SETTLED: it is not in hand, or a transaction settles it already. */
FASTQ_API int fastq_add_settle(fastq_connection connection, fastq_transaction transaction, fastq_subscription subscription,
                               const fastq_message *message, int outcome, int64_t delay_ms, uint32_t flags);

/* Adds a reject with words, as fastq_reject. */
FASTQ_API int fastq_add_reject(fastq_connection connection, fastq_transaction transaction, fastq_subscription subscription,
                               const fastq_message *message, const char *reason, const char *details);

/* Sends it and does not wait; level FASTQ_NONE counts as FASTQ_ACCEPTED. The handle is closed whatever this returns, save after FASTQ_BUSY.
 * number (may be NULL): for fastq_wait; 0: it was empty, there is nothing to wait for. The wait tells that it was refused, for which of its
 * operations and why: then nothing of it has happened, and what it was to settle is still in hand. It is sent again as all is when the broker
 * dies. FASTQ_ALREADY_SETTLED at once: something that it settles was lost meanwhile, and it is rolled back. */
FASTQ_API int fastq_commit_transaction(fastq_connection connection, fastq_transaction transaction, int level, uint64_t *number);

/* Forgets it. */
FASTQ_API int fastq_rollback(fastq_connection connection, fastq_transaction transaction);

/* ---- A ledger, for work that must be done once: what was processed is marked in one step with the accept, in a queue with a processed-window,
 * for that long. Keys of 1 to 255 bytes, results of at most 512. */

/* Accepts a message and marks a key of its queue as processed. A second mark of a key changes nothing, and tells the result of the first. Waits
 * until a kill of the broker cannot undo it. processed may be NULL. FASTQ_BAD_ARGUMENT: the queue remembers nothing; nothing has happened. */
FASTQ_API int fastq_accept_processed(fastq_connection connection, fastq_subscription subscription, const fastq_message *message,
                                     const char *key, const void *result, size_t bytes, fastq_processed *processed);

/* The result with which a key of a queue was marked, good until the next call of the connection. *result NULL: it is not marked. */
FASTQ_API int fastq_find_processed(fastq_connection connection, const char *queue, const char *key, const unsigned char **result,
                                   size_t *bytes);

/* ---- Queues. Texts are JSON in UTF-8 with a terminator, the library's, good until the next call of the connection. */

/* Makes a queue; one that exists with the same attributes is fine, with others FASTQ_QUEUE_EXISTS, whose text names them. name: NULL: a
 * queue of this connection's own, with a name that nobody else has (json tells it, and must be there), gone with the connection. attributes: NULL, or
 * lines of key=value, with the names of `fastq queue create`: lease, delay, ttl, dedup-window, processed-window,
 * expires (DURATION); max-deliveries, max-length, max-bytes,
 * max-message-size, lz4, priority-share (numbers); backoff=FIRST,FACTOR,MAX; dead-letter, dead-letter-exchange, fair-weights, require (text); overflow=reject,
 * drop-head or dead-letter; priority, fifo, fair, single-active, dedup-by-group, temporary (it goes with this connection, whose alone it is; these alone,
 * or =yes, =no); and limits on what flows: max-in-flight, burst, group-in-flight, tenant-in-flight, tenant-burst, publish-burst (numbers), rate,
 * tenant-rate, publish-rate (as 10/s, 600/m, 5/h), limit (name of one that queues share), breaker (as 50%/100, off), breaker-pause (DURATION),
 * delay-holds-group; 0: none. json may be NULL. */
FASTQ_API int fastq_declare_queue(fastq_connection connection, const char *name, const char *attributes, const char **json);

/* Gives a queue other attributes while it runs; those that are not named stay. json may be NULL. */
FASTQ_API int fastq_change_queue(fastq_connection connection, const char *name, const char *attributes, const char **json);

/* Stops a queue's ways, or lets them go on: 1: it takes no messages, 2: it delivers none, 3: both, 0: neither. */
FASTQ_API int fastq_pause_queue(fastq_connection connection, const char *name, uint32_t ways);

/* The consumers of a queue: an array of objects with the keys of `fastq queue consumers --json`, of which "subscription" says which it is. */
FASTQ_API int fastq_list_consumers(fastq_connection connection, const char *name, const char **json);

/* Lets one consumer of a queue stand still (is_paused not 0), or go on; kept over restarts. It gets nothing; what it holds stays its own and may be settled.
 * subscription: its number, as fastq_list_consumers shows it. */
FASTQ_API int fastq_pause_consumer(fastq_connection connection, const char *name, uint32_t subscription, int is_paused);

/* A queue's attributes and counts: one object, with the keys of `fastq queue show --json`. */
FASTQ_API int fastq_show_queue(fastq_connection connection, const char *name, const char **json);

/* All queues: an array of such objects. */
FASTQ_API int fastq_list_queues(fastq_connection connection, const char **json);

/* Deletes a queue with all that it holds. */
FASTQ_API int fastq_delete_queue(fastq_connection connection, const char *name);

/* Removes what is ready or delayed; what is in flight stays. purged (may be NULL): how many. */
FASTQ_API int fastq_purge_queue(fastq_connection connection, const char *name, uint64_t *purged);

/* The broker's figures: one object, as `fastq stats --json`. */
FASTQ_API int fastq_show_statistics(fastq_connection connection, const char **json);

/* Looks at messages in their places, from the place *tag on, without taking them. filter: NULL, or conditions as in `fastq browse --filter`.
 * Fills up to `most` of `messages`; *tag is then where to go on, 0: that was all. */
FASTQ_API int fastq_browse(fastq_connection connection, const char *queue, const char *filter, uint64_t *tag, fastq_browsed *messages,
                           size_t most, size_t *count);

/* Removes one message that is with nobody. FASTQ_DENIED: it is with a consumer. */
FASTQ_API int fastq_delete_message(fastq_connection connection, const char *queue, uint64_t tag);

/* Gives one message that waits another priority (-1: as it is), and another time from now on (-1: as it is; 0: at once). */
FASTQ_API int fastq_change_message(fastq_connection connection, const char *queue, uint64_t tag, int priority, int64_t delay_ms);

/* Begins to move messages of a queue in the background: to the queue `target`, or NULL: to where each died. filter: NULL: all. rate: most a
 * second, 0: no bound. tag: that message alone, 0: all. json (may be NULL): how it stands. */
FASTQ_API int fastq_start_move(fastq_connection connection, const char *queue, const char *target, const char *filter, uint64_t rate,
                               uint64_t tag, const char **json);

/* How the last move stands: {"state": "running", "finished", "cancelled" or "none", "done": N, "failed": N}. */
FASTQ_API int fastq_show_move(fastq_connection connection, const char *queue, const char **json);

/* Ends it; what it has done stays done. */
FASTQ_API int fastq_cancel_move(fastq_connection connection, const char *queue, const char **json);

/* ---- Exchanges: what is sent to one goes to every queue that its bindings lead to, and is stored once. Their names and those of queues are
 * apart. Texts as above. */

/* Makes an exchange; one that exists with the same attributes is fine, with others FASTQ_QUEUE_EXISTS. attributes: NULL, or lines of
 * key=value: type=direct (the key is the routing key), topic (words with '.' between; * is any one, # any number), fanout (all) or headers;
 * alternate=NAME (of the exchange that gets what this one gives to nobody). json may be NULL. */
FASTQ_API int fastq_declare_exchange(fastq_connection connection, const char *name, const char *attributes, const char **json);

/* Deletes an exchange, with the bindings from and to it. */
FASTQ_API int fastq_delete_exchange(fastq_connection connection, const char *name);

/* An exchange with its bindings: one object, with the keys of `fastq exchange show --json`; header values that are no text, boolean or number
 * are objects of type (enum fastq_property_type) and base64. FASTQ_UNKNOWN_EXCHANGE: there is none. */
FASTQ_API int fastq_show_exchange(fastq_connection connection, const char *name, const char **json);

/* All exchanges, without their bindings: an array. */
FASTQ_API int fastq_list_exchanges(fastq_connection connection, const char **json);

/* Has an exchange give to a queue, or another exchange, what key and headers choose; what is bound so already is fine. key: NULL: empty.
 * headers: as fastq_put_header writes them, 512 bytes at most (NULL with 0), for an exchange of that type. flags: enum fastq_binding_flags. */
FASTQ_API int fastq_bind(fastq_connection connection, const char *exchange, const char *target, const char *key, const void *headers,
                         size_t header_bytes, uint32_t flags);

/* Ends the binding that was made with the same arguments; what is not bound so is fine. */
FASTQ_API int fastq_unbind(fastq_connection connection, const char *exchange, const char *target, const char *key, const void *headers,
                           size_t header_bytes, uint32_t flags);

/* Finds an exchange by its name: its number is for publishing, as a queue's is. The routing key is the property FASTQ_ROUTING_KEY. What
 * reaches no queue is refused (FASTQ_UNROUTABLE), unless FASTQ_OPTIONAL stands with the level. */
FASTQ_API int fastq_open_exchange(fastq_connection connection, const char *name, fastq_queue *exchange);

/* ---- Messages that wait under a schedule key (the properties FASTQ_SCHEDULE_KEY; FASTQ_SCHEDULE_MODE: 0 a later one takes its place, 1 the same
 * within FASTQ_LONGEST_WAIT ms of the first, 2 the first stays and a later one is a FASTQ_DUPLICATE). */

enum fastq_timeliness {
    FASTQ_IN_TIME = 0,          /* It waited: done. */
    FASTQ_HANDED_OUT = 1,       /* It is with a consumer, or was once: nothing was done. */
    FASTQ_GONE = 2              /* None of this key is there any more, or there never was one. */
};

/* Removes the one that waits; it counts as purged. timeliness (may be NULL): enum fastq_timeliness. */
FASTQ_API int fastq_cancel_scheduled(fastq_connection connection, const char *queue, const char *key, uint32_t *timeliness);

/* Gives it another time: so long from now on; or a moment of the broker's wall clock, in us since 1970. One that has passed: at once. */
FASTQ_API int fastq_reschedule(fastq_connection connection, const char *queue, const char *key, int64_t delay_ms, uint32_t *timeliness);
FASTQ_API int fastq_reschedule_at(fastq_connection connection, const char *queue, const char *key, int64_t due_us, uint32_t *timeliness);

/* ---- Schedules: they send a message again and again, over restarts too. Texts are as those of queues, with the keys of `fastq schedule show
 * --json`. */

/* Makes a schedule, or replaces the one of this name. rule: lines of key=value: cron=EXPRESSION (five or six fields) with zone=IANA-NAME (UTC),
 * or every=DURATION (100 ms at least); missed=one (of the firings that were missed the last is sent), all or none; until=US (us since 1970);
 * count=N. All of it together at most 24,576 bytes. json may be NULL. */
FASTQ_API int fastq_set_schedule(fastq_connection connection, const char *name, const char *queue, const char *rule, const void *body,
                                 size_t bytes, const void *properties, size_t property_bytes, const char **json);

/* Ends a schedule; what it has sent stays. */
FASTQ_API int fastq_delete_schedule(fastq_connection connection, const char *name);

/* Lets it stand still (1), or go on (0): what it missed meanwhile is not sent. json may be NULL. */
FASTQ_API int fastq_pause_schedule(fastq_connection connection, const char *name, int is_paused, const char **json);

/* All schedules: an array. */
FASTQ_API int fastq_list_schedules(fastq_connection connection, const char **json);

/* ---- Limits that queues share by naming one (attribute limit). Texts have the keys of `fastq limit list --json`. */

/* Makes a limit; one that exists with the same numbers is fine. limits: lines of key=value: max-in-flight, rate, burst. json may be NULL. */
FASTQ_API int fastq_declare_limit(fastq_connection connection, const char *name, const char *limits, const char **json);

/* Gives it other numbers while it runs; those that are not named stay. json may be NULL. */
FASTQ_API int fastq_change_limit(fastq_connection connection, const char *name, const char *limits, const char **json);

/* Deletes it. FASTQ_DENIED: a queue names it. */
FASTQ_API int fastq_delete_limit(fastq_connection connection, const char *name);

/* All limits: an array. */
FASTQ_API int fastq_list_limits(fastq_connection connection, const char **json);

#ifdef __cplusplus
}
#endif

#endif
