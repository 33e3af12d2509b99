// A session: one connection, its rings, and all that must survive the broker's death.
//
//   publish, settle, commands --> pair.outbox (ring A; the resend buffer)    numbers: dense, from 1, over rings and reconnects
//   receive, confirms, answers <-- ring B, read in order: notices and answers at once, runs of deliveries as they are wanted
//
// handles.c (the API's doors), connect.c, rings.c (memory), wait.c (doorbells, socket, growth), send.c, receive.c, reconnect.c, command.c,
// consume.c, queues.c, exchanges.c, transactions.c, requests.c, schedules.c, flow.c, ledger.c, json.c; properties.c, check.c, lz4.c, text.c know no session.
#ifndef FASTQ_SESSION_H
#define FASTQ_SESSION_H

#include <stdatomic.h>
#include <sys/types.h>

#include "../include/fastq.h"
#include "wire.h"

enum {
    MARKS = 64,
    SPARE_MARKS = 16, // For the one control record that each move to another ring must write, however full the marks are.
    MAX_PAIRS = SPARE_MARKS,
    FOR_EVER = -1,
};

/// Records of one level up to a number: what must be reached before their room comes back.
struct mark { uint64_t start, end, number; int level; };

/// One pair of rings. A is ours to write, B is the broker's; not there in forked children. The outbox is ring A as resend buffer.
struct pair {
    unsigned char *a, *b;                // The control pages.
    unsigned char *a_ring, *b_ring;      // Each mapped twice in a row.
    uint32_t number, a_bytes, b_bytes;
    uint64_t head;                       // Ours, in bytes since the ring's birth; shown to the broker by publish_head.
    uint64_t freed;                      // What lies before may be overwritten.
    uint64_t known_head, position;       // Of ring B.
    uint64_t rang;                       // The broker's sleep number that was rung last.
    bool is_fenced_by_broker;
    unsigned first_mark, end_mark;
    struct mark marks[MARKS + SPARE_MARKS];
};

/// What a connection consists of, and what of it was not confirmed. The last pair is written to, `reading` is read from.
struct link {
    int socket, bell, pipe;
    int pair_count, reading;
    struct pair *pairs[MAX_PAIRS];
};

/// A run of deliveries: in the ring until it is begun, then in here. Pooled.
struct run {
    struct run *next_in_ring, *next_waiting;
    uint64_t position;                   // Where its record begins in ring B.
    struct deliveries_header header;
    struct delivery_entry *entries;      // Room for MAX_RUN_ENTRIES; filled when it is taken out of the ring.
    unsigned char *record;               // Of a copy.
    int next;
    bool is_taken, is_listed, is_over;
};

/// A delivery in hand.
struct open_delivery { unsigned char *copy; uint32_t slot; bool is_open, is_named; }; // Named: a transaction is to settle it.

/// A delivery whose bytes this side doubted: the copy that comes for it does not say its token again.
struct doubted { uint64_t number, token; };

struct subscription {
    struct subscription *next;
    uint64_t handle;
    uint32_t id, queue, credit, life, settle_batch, priority;
    bool is_exclusive, is_automatic, is_listed, is_closing;
    uint64_t credit_bytes, lease_ms;
    struct open_delivery *open;          // A ring of a power of two, by delivery number.
    uint64_t open_size, first_kept, next_delivery, in_hand;
    struct run *first_waiting, *last_waiting, *current;
    struct doubted *doubted;
    size_t doubted_count, doubted_size;
    uint64_t settle_first;
    uint32_t settle_count;
    uint8_t settle_flags;
    int settle_level;
    int64_t settle_delay;
    int ended_code;
    unsigned char *kept;                 // With `auto`: the records of the last receive.
    size_t kept_size;
};

/// A mapped slot file.
struct slot_map { uint32_t slot; bool is_given_up, is_kept, is_replaced; unsigned char *reserved, *at; size_t reserved_bytes, length; dev_t device; ino_t inode; };

/// A delivery that a transaction is to settle. Its subscription may end before that.
struct named { uint64_t subscription, number; uint32_t life; };

struct buffer { unsigned char *at; size_t length, size; };

/// Records that take effect together. Gathered here; when it is committed, kept until it is decided.
struct transaction {
    struct transaction *next;
    uint64_t handle, sent;               // Sent: the number of its last record.
    int64_t within_ms, deadline;
    struct buffer records;
    uint32_t count;
    size_t last_settle;                  // Where the record begins that neighbours of its deliveries may join; SIZE_MAX: there is none.
    struct named *named;
    size_t named_count, named_size;
};

/// A reply that came, or the word that none will: then its code says why, and its bytes in words.
struct reply { struct reply *next; struct reply_record header; uint64_t value; size_t length; unsigned char payload[]; };

/// A request whose answer is awaited.
struct request { uint64_t number, waiting_bytes; uint32_t next_part; bool is_over; struct reply *first, *last; };

/// A part of an answer that this side sent, until somebody has heard what became of it.
struct word { uint64_t cookie; int code; bool is_told; };

/// A queue that wants bodies compressed from a size on.
struct lz4_queue { uint32_t queue; uint64_t from; };

/// How many queues took a message to an exchange.
struct routed { uint64_t number, queues; };

/// A command that nobody waits for: the resumption of a subscription.
struct resuming { uint64_t number; struct subscription *subscription; uint32_t id; };

struct session {
    struct link link;
    char *path, *name;
    int64_t patience_ns;
    uint32_t ring_bytes;
    bool wants_copies, verifies_all;
    unsigned char instance[INSTANCE_BYTES];
    fastq_log log;
    void *log_context;
    int event;                           // The epoll descriptor that holds pipe and socket.
    bool is_armed;                       // The sleep number is odd for an event loop's sake.
    bool is_closed;                      // The broker sent us away for good; `farewell` says why.
    int farewell_code;
    char farewell[256];

    uint64_t producer, epoch, next_number, durable_seen, resumed_at, max_message_bytes, slot_bytes;
    uint64_t refusals_taken, refusals_told, reconnects, resent, duplicates;
    uint64_t published_position;
    uint64_t seen[5];                    // Head, position and counters at the last look.
    unsigned full_waits, empty_looks, slots_to_acknowledge;
    bool is_growing;
    size_t reserved_length;              // Of the record that fastq_reserve has begun; 0: none.

    struct subscription *subscriptions, *last_found;
    uint64_t next_handle;
    struct request *requests;            // By number.
    size_t request_count, request_size;
    struct reply *given;                 // What the caller may look at until its next reply.
    struct word *words;
    size_t word_count, word_size;
    uint64_t last_word;
    struct buffer properties;            // Of a request, being written.
    struct lz4_queue *lz4;               // Of those that were looked up.
    size_t lz4_count, lz4_size;
    struct buffer encoded;               // Properties and body of a message as they are sent.
    struct routed *routed;               // By number; the oldest make room.
    size_t routed_count, routed_size;
    struct transaction *transactions, *sent; // Those that are gathered; those that are not decided, in order.
    struct run *first_run, *last_run;    // In ring order, all that stand in ring B.
    struct run *pool;
    struct slot_map *slots;
    size_t slot_count, slot_size, last_slot;
    uint32_t *gone;                      // Slots that are named no more.
    size_t gone_count, gone_size;
    int beginnings_before_letting_go;
    struct resuming *resuming;
    size_t resuming_count, resuming_size;
    fastq_refusal *refused;
    size_t refused_count, refused_size;

    uint64_t awaited;                    // The command that is waited for.
    bool is_answered;
    int answer_code;
    uint64_t answer_value;
    struct buffer answers;               // Each: length u64, payload, padded to 8.
    struct subscription *subscribing;    // Begins with the answer, before anything behind that is looked at.
    struct buffer text;                  // JSON for the caller.
};

// ---- error.c
/// Sets the thread's last error and gives the code back.
int fail(int code, uint64_t value, const char *format, ...) __attribute__((format(printf, 3, 4)));
int fail_system(const char *call, const char *subject);
int fail_memory(void);
int fail_closed(void);

// ---- text.c
/// Goes to the next line `key=value` or `key` (value NULL) of options. False: there is none.
struct option { const char *key, *value; size_t key_bytes, value_bytes; };
bool next_option(const char **at, struct option *option);
bool option_is(const struct option *option, const char *key);
int option_number(const struct option *option, uint64_t least, uint64_t most, uint64_t *number);
int option_milliseconds(const struct option *option, uint64_t *milliseconds);
int option_switch(const struct option *option, bool *is_on);
bool parse_duration(const char *text, size_t length, uint64_t *milliseconds);
int unknown_option(const struct option *option);

/// Room for `more` bytes behind what the buffer holds.
int buffer_reserve(struct buffer *buffer, size_t more);
int buffer_add(struct buffer *buffer, const void *bytes, size_t length);
/// Room for one more item of a table. False: no memory.
bool grow(void **items, size_t *size, size_t count, size_t item_bytes);

// ---- fields: text of commands, answers and socket messages.
struct field_writer { unsigned char *room; size_t size, length; bool has_overflowed; };
struct field_reader { const unsigned char *at; size_t left; uint16_t tag; const unsigned char *value; size_t bytes; uint64_t number; };
void put_field(struct field_writer *to, uint16_t tag, const void *value, size_t length);
void put_number(struct field_writer *to, uint16_t tag, uint64_t number);
void put_text(struct field_writer *to, uint16_t tag, const char *text);
bool next_field(struct field_reader *from);
uint64_t number_of(const unsigned char *fields, size_t length, uint16_t tag);
bool bytes_of(const unsigned char *fields, size_t length, uint16_t tag, const unsigned char **value, size_t *bytes);

// ---- properties.c
bool properties_are_whole(const unsigned char *properties, size_t length);
bool find_encoding(const unsigned char *properties, size_t length, fastq_property *encoding);

// ---- time
int64_t now_ns(void);
int64_t deadline_in(int64_t wait_ns);
bool is_over(int64_t deadline);
int milliseconds_left(int64_t deadline);

// ---- rings.c
int map_pair(uint32_t number, uint64_t a_bytes, uint64_t b_bytes, int descriptor_a, int descriptor_b, struct pair **pair);
void unmap_pair(struct pair *pair);
bool is_ring(uint64_t bytes);
uint64_t ring_for(uint64_t record_bytes);
int64_t room_in(const struct pair *pair);
bool has_mark_room(const struct pair *pair);
unsigned char *next_record(struct pair *pair);
/// A record of this length stands at the head: counts it into the outbox and shows it.
void commit_record(struct pair *pair, size_t length, uint64_t number, int level);
void free_confirmed(struct pair *pair, uint64_t read_position, uint64_t written, uint64_t durable);
bool must_ring(struct pair *pair);
static inline uint64_t load(const unsigned char *page, size_t offset) { return atomic_load_explicit((const _Atomic uint64_t *)(const void *)(page + offset), memory_order_acquire); }
static inline void store(unsigned char *page, size_t offset, uint64_t value) { atomic_store_explicit((_Atomic uint64_t *)(void *)(page + offset), value, memory_order_release); }
static inline struct pair *reading(struct session *s) { return s->link.pairs[s->link.reading]; }
static inline struct pair *writing(struct session *s) { return s->link.pairs[s->link.pair_count - 1]; }

// ---- slots.c
int add_slot(struct session *s, uint32_t slot, int descriptor);
bool knows_slot(struct session *s, uint32_t slot);
const unsigned char *find_record(struct session *s, uint32_t slot, uint32_t offset, uint32_t length);
void give_up_slot(struct session *s, uint32_t slot);
void keep_all_slots(struct session *s);
void let_go_of_slots(struct session *s);
void unmap_slots(struct session *s);

// ---- connect.c
/// What came by the socket.
struct packet { unsigned char bytes[MAX_HANDSHAKE_BYTES]; size_t length; int descriptors[MAX_SLOTS_PER_MESSAGE], descriptor_count; };
/// -1: nothing is there, 0: the broker is gone, 1: a packet.
int read_packet(int socket, struct packet *packet);
bool is_handshake(const struct packet *packet, uint16_t *kind, struct field_reader *fields);
void close_descriptors(const int *descriptors, int count);
int send_mapped(int socket);
/// One attempt. FASTQ_OK with *is_there false: no broker, and the thread's last error says why.
int try_connect(struct session *s, struct link *link, uint64_t claimed_durable, uint32_t a_bytes, uint32_t b_bytes, int64_t deadline, bool *is_there);
void close_link(struct link *link);
bool pause_until(int64_t deadline);
int watch_link(struct session *s);
void say(struct session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

// ---- wait.c
int wait_for_news(struct session *s, int64_t deadline, bool *news);
bool has_news(struct session *s);
int take_news(struct session *s, bool *news);
int look_at_socket(struct session *s);
/// *is_gone: the broker hung up. *any false: nothing was there.
int read_socket(struct session *s, bool *any, bool *is_gone);
int await_slot(struct session *s, uint32_t slot);
int grow_rings(struct session *s, uint64_t bytes);
int move_deliveries(struct session *s);
void announce_sleep(struct session *s);
void wake(struct session *s);
void ring_broker(struct session *s);

// ---- send.c
int ensure_room(struct session *s, size_t length);
int make_room(struct session *s, size_t length, size_t body_bytes, size_t property_bytes);
uint64_t commit_numbered(struct session *s, size_t length, int level);
int send_control(struct session *s, struct control_record record);
void write_control(struct session *s, struct control_record record);
int send_settle(struct session *s, struct settle_record record, int level, const unsigned char *words, size_t word_bytes, uint64_t *number);
int send_command(struct session *s, uint16_t kind, const unsigned char *fields, size_t length, int level, uint64_t *number);
void free_read(struct session *s);
int flush_all(struct session *s, int level, int64_t wait_ns);
int confirmed(struct session *s, int level, uint64_t *number);

// ---- receive.c
int drain(struct session *s);
void publish_position(struct session *s);
int take_all_out(struct session *s);
void give_up_runs(struct session *s, struct subscription *u);
int next_delivery(struct session *s, struct subscription *u, fastq_message *message, bool *is_there);
int add_refusal(struct session *s, uint64_t number, int code, uint64_t value, const unsigned char *text, size_t length);
bool take_refusal(struct session *s, uint64_t number, fastq_refusal *refusal);
void free_run(struct session *s, struct run *run);

// ---- reconnect.c
int reconnect(struct session *s);
int take_resume_answer(struct session *s, const struct answer_record *answer, const unsigned char *payload, size_t length);

// ---- command.c
int ask(struct session *s, uint16_t kind, const struct field_writer *fields);
bool next_answer(const struct session *s, size_t *position, const unsigned char **fields, size_t *length);
int find_queue(struct session *s, const char *name, uint32_t *queue);
int take_answer(struct session *s, const unsigned char *record, size_t length);

// ---- consume.c
struct subscription *find_subscription(struct session *s, uint32_t id);
int open_delivery(struct subscription *u, uint64_t number, uint32_t slot, unsigned char *copy);
bool is_open(const struct subscription *u, uint64_t number, uint32_t life);
void end_subscription(struct session *s, struct subscription *u, int code);
void restart_subscription(struct subscription *u, uint32_t id, uint64_t next_delivery);
int flush_settles(struct session *s, struct subscription *u, uint64_t *number);
int flush_all_settles(struct session *s);
int unsubscribe(struct session *s, struct subscription *u);
void free_subscriptions(struct session *s);
void close_delivery(struct subscription *u, uint64_t number);
int not_open(const struct subscription *u, uint64_t number);
struct subscription *of_handle(struct session *s, fastq_subscription handle);
struct open_delivery *slot_of(const struct subscription *u, uint64_t number);
uint8_t flags_of(int outcome, int level, uint32_t flags);
/// What a consumer says of a reject, as fields.
int write_words(struct field_writer *to, const char *reason, const char *details);
bool reads_slot(const struct subscription *u, uint32_t slot);
void begin_subscription(struct session *s, const unsigned char *answer, size_t length);
size_t write_subscribe(const struct subscription *u, unsigned char *room, size_t size);
size_t write_resume(const struct subscription *u, uint32_t id, unsigned char *room, size_t size);

// ---- json.c
int json_add(struct buffer *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
int json_string(struct buffer *to, const unsigned char *text, size_t bytes);
/// "key":"the field's text", empty where it is left out.
int json_field(struct buffer *to, const unsigned char *fields, size_t length, const char *key, uint16_t tag);
int json_seconds(struct buffer *to, const char *key, uint64_t milliseconds);
/// A moment as ISO 8601 in UTC; null: 0.
int json_moment(struct buffer *to, const char *key, uint64_t micros);
int json_double(struct buffer *to, double number);
int json_value(struct buffer *to, const fastq_property *property);
int give_json(struct session *s, const char **json);
int give_list(struct session *s, uint16_t command, const char *queue, int (*write)(struct buffer *to, const unsigned char *fields, size_t length), const char **json);

// ---- queues.c
enum { COMMAND_BYTES = 4096 };
int needs_name(const char *what);
int ask_of(struct session *s, uint16_t kind, const char *name, struct field_writer *fields);

// ---- transactions.c
/// All numbers of a transaction were refused, for one of its records.
int take_transaction_refused(struct session *s, const struct notice_record *notice, const unsigned char *text, size_t length);
/// What is decided up to a number, and was not refused, is done: what it settled is not in hand any more.
void take_decided(struct session *s, uint64_t decided);
void free_transactions(struct session *s);

// ---- requests.c
/// From here on numbers are no submissions', but name parts of answers.
#define FIRST_WORD (UINT64_C(1) << 52)
int take_reply(struct session *s, const unsigned char *record, size_t length);
void take_reply_ended(struct session *s, const struct notice_record *notice);
bool is_request(const struct session *s, uint64_t number);
int fail_request(struct session *s, uint64_t number, int code, uint64_t value, const unsigned char *text, size_t length);
void lose_words(struct session *s);
int wait_for_word(struct session *s, uint64_t cookie, int64_t wait_ns);
void free_requests(struct session *s);

// ---- flow.c
struct flow { unsigned char bytes[192]; size_t length; bool has_overflowed; };
/// Adds what an option says, if it is a limit; `is_shared`: of those that queues share.
int put_limit(struct flow *flow, const struct option *option, bool is_shared, bool *is_one);
/// "flow":{...}
int json_flow(struct buffer *to, const unsigned char *fields, size_t length);

// ---- publish.c
/// What a queue's answer says of the compression that it wants.
int note_lz4(struct session *s, uint32_t queue, const unsigned char *fields, size_t length);
/// Properties and body as they are to be sent: compressed, where the queue wants that and they get smaller by it.
struct outgoing { const void *body, *properties; size_t bytes, property_bytes; };
void encode(struct session *s, fastq_queue queue, struct outgoing *message);
int publish(struct session *s, fastq_queue queue, const void *body, size_t bytes, const void *properties, size_t property_bytes, int level, uint64_t *number);

// ---- handles.c: a door that each call of a connection goes through. Everything else is reached through it alone.
int enter(fastq_connection connection, struct session **session);
/// As above; *reserved: the length of the record that the call before has begun, 0: none.
int enter_with_reserved(fastq_connection connection, struct session **session, size_t *reserved);
/// Leaves; gives `code` back.
int leave(fastq_connection connection, int code);
/// Frees what a session has in this process's memory, but for its links and slots.
void free_session(struct session *s);

#endif
