/*
 * Generated from the tables of src/FastQ.Protocol, which broker and clients share; its tests compare. Do not edit.
 */
#ifndef FASTQ_CODES_H
#define FASTQ_CODES_H

/* Why something was refused, and what to do. The numbers never change their meaning. */
enum fastq_refusal_code {
    FASTQ_UNKNOWN_QUEUE = 1, /* No queue has this name or number. Create it first: fastq queue create NAME. */
    FASTQ_QUEUE_EXISTS = 2, /* A queue, or an exchange, of this name exists with other attributes. Use the existing attributes, or delete it first. */
    FASTQ_QUEUE_DELETED = 3, /* The queue was deleted while it was in use. Create it again if it is still wanted; one made anew is another queue. */
    FASTQ_BAD_NAME = 4, /* A name is 1 to 255 bytes of UTF-8 without control characters and does not begin with 'fastq.'. Choose another name. */
    FASTQ_BAD_ARGUMENT = 5, /* An argument is outside its range. See the text of the refusal for the argument and its range. */
    FASTQ_TOO_LARGE = 6, /* The message is larger than the broker allows. Send it in parts, or raise max-message-size (at most 16 MiB). */
    FASTQ_LIMIT_REACHED = 7, /* A limit of the broker is reached. See the text for the limit and its value; consume, or raise it. */
    FASTQ_LEASE_LOST = 8, /* The lease on this delivery ended before it was settled. The message is delivered again; make the work idempotent or extend the lease. */
    FASTQ_ALREADY_SETTLED = 9, /* This delivery was settled before. Settle each delivery once. */
    FASTQ_FENCED = 10, /* A newer session uses this producer. Stop this one; only the newest may go on. */
    FASTQ_TIMED_OUT = 11, /* The answer did not come in time. Try again, or wait longer. */
    FASTQ_DISCONNECTED = 12, /* The connection to the broker is lost. Start the broker, or wait longer (patience). */
    FASTQ_CLOSED = 13, /* The connection or subscription was closed by this program. Open a new one. */
    FASTQ_DENIED = 14, /* This user may not do that. Ask the operator of the broker. */
    FASTQ_CORRUPT = 15, /* Stored data is damaged. Run: fastq journal verify DIR. */
    FASTQ_STORAGE_FAILED = 16, /* The disk reported an error; nothing is confirmed any more. Check the device (dmesg), then start the broker again. */
    FASTQ_INTERNAL = 17, /* A fault of the broker. Report it with the broker's log. */
    FASTQ_UNKNOWN_SUBSCRIPTION = 18, /* No such subscription belongs to this session. Subscribe first. */
    FASTQ_RING_VIOLATION = 19, /* The client wrote something into its ring that the protocol forbids. Use a client library of this protocol version; report it if you did. */
    FASTQ_VERSION_MISMATCH = 20, /* Client and broker share no version of the protocol. Use a client of the broker's major version. */
    FASTQ_UNKNOWN_PRODUCER = 21, /* The producer to resume is not known (it may have been forgotten). Connect anew; what was not confirmed must be sent again by the application. */
    FASTQ_DATA_LOST = 22, /* The client holds confirms that the broker's journal does not know. The journal lost confirmed data or an older copy was restored: tell the operator. */
    FASTQ_SHUTTING_DOWN = 23, /* The broker is stopping and takes no new messages. Send again after it is back; the client library does so by itself. */
    FASTQ_DISK_FULL = 24, /* No room on the disk for new messages. Free space, or consume; settlements still pass. */
    FASTQ_UNKNOWN_RECORD = 25, /* The broker does not know this kind of record. Use a client of the broker's version or an older one. */
    FASTQ_OUT_OF_ORDER = 26, /* A submission number is not the next one. Use a client library of this protocol version; report it if you did. */
    FASTQ_UNKNOWN_NAMESPACE = 27, /* No namespace has this name. Use the namespace 'default'. */
    FASTQ_PAUSED = 28, /* The queue is paused and takes no new messages. Wait, or let it go on: fastq queue resume NAME. */
    FASTQ_MISSING_PROPERTY = 29, /* The message lacks a property that its queue demands. Set it; fastq queue show NAME lists what is demanded. */
    FASTQ_DUPLICATE = 30, /* The message was taken before: the first one counts. Nothing to do; the value is the first one's place in its queue. */
    FASTQ_UNROUTABLE = 31, /* The exchange gives this message to no queue. Bind a queue: fastq bind EXCHANGE QUEUE --key KEY; or send it as optional. */
    FASTQ_UNKNOWN_EXCHANGE = 32, /* No exchange has this name. Create it first: fastq exchange create NAME. */
    FASTQ_NO_RESPONDER = 37, /* Nobody answers this request: its queue has no consumer, or the one that had it ended before it replied. Start a responder, then ask again; whether work was begun is not known where one had it. */
    FASTQ_NO_REQUESTER = 38 /* Nobody waits for this reply any more. Nothing to do; what the request asked for may be undone. */
};

/* For tables: X(symbol, number, name). */
#define FASTQ_REFUSALS(X) \
    X(FASTQ_UNKNOWN_QUEUE, 1, "unknown-queue") \
    X(FASTQ_QUEUE_EXISTS, 2, "queue-exists") \
    X(FASTQ_QUEUE_DELETED, 3, "queue-deleted") \
    X(FASTQ_BAD_NAME, 4, "bad-name") \
    X(FASTQ_BAD_ARGUMENT, 5, "bad-argument") \
    X(FASTQ_TOO_LARGE, 6, "too-large") \
    X(FASTQ_LIMIT_REACHED, 7, "limit-reached") \
    X(FASTQ_LEASE_LOST, 8, "lease-lost") \
    X(FASTQ_ALREADY_SETTLED, 9, "already-settled") \
    X(FASTQ_FENCED, 10, "fenced") \
    X(FASTQ_TIMED_OUT, 11, "timed-out") \
    X(FASTQ_DISCONNECTED, 12, "disconnected") \
    X(FASTQ_CLOSED, 13, "closed") \
    X(FASTQ_DENIED, 14, "denied") \
    X(FASTQ_CORRUPT, 15, "corrupt") \
    X(FASTQ_STORAGE_FAILED, 16, "storage-failed") \
    X(FASTQ_INTERNAL, 17, "internal") \
    X(FASTQ_UNKNOWN_SUBSCRIPTION, 18, "unknown-subscription") \
    X(FASTQ_RING_VIOLATION, 19, "ring-violation") \
    X(FASTQ_VERSION_MISMATCH, 20, "version-mismatch") \
    X(FASTQ_UNKNOWN_PRODUCER, 21, "unknown-producer") \
    X(FASTQ_DATA_LOST, 22, "data-lost") \
    X(FASTQ_SHUTTING_DOWN, 23, "shutting-down") \
    X(FASTQ_DISK_FULL, 24, "disk-full") \
    X(FASTQ_UNKNOWN_RECORD, 25, "unknown-record") \
    X(FASTQ_OUT_OF_ORDER, 26, "out-of-order") \
    X(FASTQ_UNKNOWN_NAMESPACE, 27, "unknown-namespace") \
    X(FASTQ_PAUSED, 28, "paused") \
    X(FASTQ_MISSING_PROPERTY, 29, "missing-property") \
    X(FASTQ_DUPLICATE, 30, "duplicate") \
    X(FASTQ_UNROUTABLE, 31, "unroutable") \
    X(FASTQ_UNKNOWN_EXCHANGE, 32, "unknown-exchange") \
    X(FASTQ_NO_RESPONDER, 37, "no-responder") \
    X(FASTQ_NO_REQUESTER, 38, "no-requester")

/* Properties of a message. */
enum fastq_property_tag {
    FASTQ_HEADER = 1,
    FASTQ_MESSAGE_ID = 2,
    FASTQ_CORRELATION_ID = 3,
    FASTQ_REPLY_TO = 4,
    FASTQ_CONTENT_TYPE = 5,
    FASTQ_CONTENT_ENCODING = 6,
    FASTQ_TYPE = 7,
    FASTQ_KEY = 8,
    FASTQ_SCHEMA_VERSION = 9,
    FASTQ_BODY_ENCODING = 10,
    FASTQ_DELAY = 32,
    FASTQ_DELIVER_AT = 33,
    FASTQ_TTL = 34,
    FASTQ_PRIORITY = 35,
    FASTQ_GROUP = 36,
    FASTQ_TENANT = 37,
    FASTQ_DEDUPLICATION_ID = 38,
    FASTQ_UNIQUE_KEY = 39,
    FASTQ_UNIQUE_UNTIL = 40,
    FASTQ_EXCHANGE = 41,
    FASTQ_ROUTING_KEY = 42,
    FASTQ_SCHEDULE_KEY = 48,
    FASTQ_SCHEDULE_MODE = 49,
    FASTQ_LONGEST_WAIT = 50,
    FASTQ_REQUEST = 51,
    FASTQ_DEATH = 64,
    FASTQ_ORIGIN = 65
};

/* Types of their values. */
enum fastq_property_type {
    FASTQ_TEXT = 0,
    FASTQ_BOOLEAN = 1,
    FASTQ_INT64 = 2,
    FASTQ_DOUBLE = 3,
    FASTQ_BYTES = 4,
    FASTQ_TIMESTAMP = 5,
    FASTQ_LIST = 6,
    FASTQ_TABLE = 7
};

/* How a message stands in its queue. */
enum fastq_state {
    FASTQ_STATE_READY = 1,
    FASTQ_STATE_IN_FLIGHT = 2,
    FASTQ_STATE_DAMAGED = 3,
    FASTQ_STATE_DELAYED = 4,
    FASTQ_STATE_DEAD_LETTERING = 5
};

/* Why a message died. */
enum fastq_reason {
    FASTQ_REASON_MAX_DELIVERIES = 1,
    FASTQ_REASON_REJECTED = 2,
    FASTQ_REASON_EXPIRED = 3,
    FASTQ_REASON_OVERFLOW = 4,
    FASTQ_REASON_UNROUTABLE = 5
};

/* Why a message came back from a consumer. */
enum fastq_release_reason {
    FASTQ_REASON_LEASE_ENDED = 16,
    FASTQ_REASON_CONSUMER_GONE = 17,
    FASTQ_REASON_RELEASED = 18,
    FASTQ_REASON_RELEASED_UNCOUNTED = 19
};

#endif
