'use strict';
// libfastq's functions as fastq.h has them, and what all of this package wants of them.

const fs = require('node:fs');
const path = require('node:path');
const koffi = require('koffi');

const ABI = 1, MESSAGE_BYTES = 64, TIMED_OUT = 11, DUPLICATE = 30, NO_REQUESTER = 38;
const LEVELS = { none: 0, accepted: 1, written: 2, durable: 3 };
const ACCEPT = 0, RELEASE = 1, UNCOUNTED = 1, OPTIONAL = 4, COUNTED = 8, ANY_HEADER = 1, TO_EXCHANGE = 2;
const LAST = 1, FAILED = 2, END = 4, WAITS_FOR_RESPONDER = 1;
const ADDRESS = 'fastq.reply.'; // So begins the address of a request's reply.
const SLICE_NS = 20_000_000; // So long a call waits on its thread before others of its connection have their turn.

function find() {
  const beside = path.join(__dirname, 'libfastq.so.1'), built = path.join(__dirname, '..', '..', '..', 'artifacts', 'lib', 'libfastq.so.1');
  return process.env.FASTQ_LIB || [beside, built].find((file) => fs.existsSync(file)) || 'libfastq.so.1';
}

const library = koffi.load(find());
const text = library.func('const char *fastq_last_error()'), lastValue = library.func('uint64_t fastq_last_value()'), nameOf = library.func('const char *fastq_code_name(int)');
const C = {};
for (const [name, parameters] of Object.entries({
  open: 'uint32_t, const char *, const char *, _Out_ uint64_t *', close: 'uint64_t', open_queue: 'uint64_t, const char *, _Out_ uint32_t *',
  publish: 'uint64_t, uint32_t, const void *, size_t, const void *, size_t, int, _Out_ uint64_t *',
  publish_batch: 'uint64_t, uint32_t, const void *, const void *, const void *, size_t, int, void *',
  wait: 'uint64_t, uint64_t, int, int64_t', flush: 'uint64_t, int, int64_t', subscribe: 'uint64_t, const char *, const char *, _Out_ uint64_t *',
  unsubscribe: 'uint64_t, uint64_t', receive: 'uint64_t, uint64_t, void *, size_t, int64_t, _Out_ size_t *',
  settle: 'uint64_t, uint64_t, const void *, int, int, int64_t, uint32_t, _Out_ uint64_t *',
  settle_range: 'uint64_t, uint64_t, uint64_t, uint64_t, uint32_t, int, int, _Out_ uint64_t *',
  reject: 'uint64_t, uint64_t, const void *, const char *, const char *, int, _Out_ uint64_t *', extend: 'uint64_t, uint64_t, const void *, int64_t, int, _Out_ uint64_t *',
  body_size: 'const void *, _Out_ size_t *', copy_body: 'const void *, void *, size_t', declare_queue: 'uint64_t, const char *, const char *, _Out_ const char **',
  copy_messages: 'const void *, size_t, void *, size_t, _Out_ size_t *', tick: 'uint64_t', change_queue: 'uint64_t, const char *, const char *, _Out_ const char **',
  pause_queue: 'uint64_t, const char *, uint32_t', list_consumers: 'uint64_t, const char *, _Out_ const char **', pause_consumer: 'uint64_t, const char *, uint32_t, int',
  show_statistics: 'uint64_t, _Out_ const char **', routed: 'uint64_t, uint64_t, _Out_ int64_t *',
  browse: 'uint64_t, const char *, const char *, _Inout_ uint64_t *, void *, size_t, _Out_ size_t *', delete_message: 'uint64_t, const char *, uint64_t',
  change_message: 'uint64_t, const char *, uint64_t, int, int64_t', start_move: 'uint64_t, const char *, const char *, const char *, uint64_t, uint64_t, _Out_ const char **',
  show_move: 'uint64_t, const char *, _Out_ const char **',
  open_exchange: 'uint64_t, const char *, _Out_ uint32_t *', declare_exchange: 'uint64_t, const char *, const char *, void *', delete_exchange: 'uint64_t, const char *',
  show_exchange: 'uint64_t, const char *, _Out_ const char **', list_exchanges: 'uint64_t, _Out_ const char **',
  bind: 'uint64_t, const char *, const char *, const char *, const void *, size_t, uint32_t', unbind: 'uint64_t, const char *, const char *, const char *, const void *, size_t, uint32_t',
  begin: 'uint64_t, int64_t, _Out_ uint64_t *', add_publish: 'uint64_t, uint64_t, uint32_t, const void *, size_t, const void *, size_t, uint32_t',
  add_settle: 'uint64_t, uint64_t, uint64_t, const void *, int, int64_t, uint32_t', add_reject: 'uint64_t, uint64_t, uint64_t, const void *, const char *, const char *',
  commit_transaction: 'uint64_t, uint64_t, int, _Out_ uint64_t *', rollback: 'uint64_t, uint64_t',
  request: 'uint64_t, uint32_t, const void *, size_t, const void *, size_t, int64_t, uint32_t, _Out_ uint64_t *', receive_reply: 'uint64_t, uint64_t, int64_t, void *',
  end_request: 'uint64_t, uint64_t', send_reply: 'uint64_t, const char *, const void *, size_t, const void *, size_t, uint32_t, uint32_t, _Out_ uint64_t *',
  reply_to: 'uint64_t, uint64_t, const void *, const void *, size_t, const void *, size_t, uint32_t, uint32_t, int, _Out_ uint64_t *',
  accept_processed: 'uint64_t, uint64_t, const void *, const char *, const void *, size_t, void *', find_processed: 'uint64_t, const char *, const char *, _Out_ uint64_t *, _Out_ size_t *',
  cancel_scheduled: 'uint64_t, const char *, const char *, _Out_ uint32_t *', reschedule: 'uint64_t, const char *, const char *, int64_t, _Out_ uint32_t *',
  reschedule_at: 'uint64_t, const char *, const char *, int64_t, _Out_ uint32_t *',
  set_schedule: 'uint64_t, const char *, const char *, const char *, const void *, size_t, const void *, size_t, _Out_ const char **', delete_schedule: 'uint64_t, const char *',
  pause_schedule: 'uint64_t, const char *, int, _Out_ const char **', list_schedules: 'uint64_t, _Out_ const char **',
  declare_limit: 'uint64_t, const char *, const char *, _Out_ const char **', change_limit: 'uint64_t, const char *, const char *, _Out_ const char **',
  delete_limit: 'uint64_t, const char *', list_limits: 'uint64_t, _Out_ const char **',
  show_queue: 'uint64_t, const char *, _Out_ const char **', list_queues: 'uint64_t, _Out_ const char **', delete_queue: 'uint64_t, const char *',
  purge_queue: 'uint64_t, const char *, _Out_ uint64_t *',
})) {
  C[name] = library.func(`int fastq_${name}(${parameters})`);
}

/** What the broker or the library refused. */
class FastqError extends Error {
  constructor(code, message, value = 0) {
    super(message ? `${code}: ${message}` : code);
    this.name = 'FastqError';
    this.code = code;
    this.value = value;
  }
}

function levelOf(confirm) {
  if (!(confirm in LEVELS)) throw new FastqError('bad-argument', `confirm is one of ${Object.keys(LEVELS).join(', ')}, not ${confirm}`);
  return LEVELS[confirm];
}

/** On a thread of Node's: what may wait. Only its code comes back: the words of an error are that thread's. */
const onThread = (call, ...parameters) => new Promise((resolve, reject) => call.async(...parameters, (error, code) => (error ? reject(error) : resolve(code))));

const refused = (code, words = '') => new FastqError(nameOf(code), words, 0);

function check(code) {
  if (code !== 0) throw new FastqError(nameOf(code), text(), Number(lastValue()));
}

function lines(options) {
  return Object.entries(options).filter(([, value]) => value != null).map(([key, value]) => `${key.replace(/[A-Z]/g, (one) => `-${one.toLowerCase()}`)}=${value === true ? 'yes' : value === false ? 'no' : value}`).join('\n');
}

const at = (address, length) => (length === 0 ? Buffer.alloc(0) : Buffer.from(new Uint8Array(koffi.view(address, length)))); // Of its own: the view is not kept.
const copy = (bytes, place, length) => (length === 0 ? Buffer.alloc(0) : at(bytes.readBigUInt64LE(place), length));

/** The properties that say where a message goes, or what it is about. */
function target(queue, exchange, key) {
  if ((queue == null) === (exchange == null)) throw new FastqError('bad-argument', 'A message goes to a queue, or, with queue null, to an exchange');
  return exchange == null ? { key } : { exchange, routingKey: key };
}

module.exports = {
  ABI, MESSAGE_BYTES, TIMED_OUT, DUPLICATE, NO_REQUESTER, ACCEPT, RELEASE, UNCOUNTED, OPTIONAL, COUNTED, ANY_HEADER, TO_EXCHANGE, LAST, FAILED, END,
  WAITS_FOR_RESPONDER, ADDRESS, SLICE_NS, C, FastqError, levelOf, onThread, refused, check, lines, at, copy, target, addressOf: koffi.address,
};
