'use strict';
// FastQ from Node: queues over shared memory, through libfastq. What may wait runs on Node's own threads, one call of a connection after the other.

const fs = require('node:fs');
const path = require('node:path');
const { randomUUID } = require('node:crypto');
const koffi = require('koffi');
const properties = require('./properties.js');

const ABI = 1, MESSAGE_BYTES = 64, ENCODED = 2, REDELIVERED = 1, TIMED_OUT = 11, DUPLICATE = 30;
const LEVELS = { none: 0, accepted: 1, written: 2, durable: 3 };
const ACCEPT = 0, RELEASE = 1, UNCOUNTED = 1;
const SLICE_NS = 20_000_000; // So long a call waits on its thread before others of its connection have their turn.
const BATCH = 1000;

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
  body_size: 'const void *, _Out_ size_t *', copy_body: 'const void *, void *, size_t', declare_queue: 'uint64_t, const char *, const char *, void *',
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

/** Connects to the broker. patience: for so many seconds it is waited for, now and after its restarts. */
async function connect({ path: socket = null, clientName = 'node', patience = 15 } = {}) {
  const handle = [0];
  const code = await onThread(C.open, ABI, socket, `name=${clientName.replaceAll('\n', ' ')}\npatience=${Math.ceil(patience * 1000)}ms`, handle);
  if (code !== 0) throw refused(code, `No connection to ${socket ?? 'the default socket'}`);
  return new Connection(handle[0]);
}

class Connection {
  #handle; #last = Promise.resolve(); #queues = new Map(); #closed = false;

  constructor(handle) { this.#handle = handle; }

  /** One call of a connection after the other. */
  _turn(work) {
    const turn = this.#last.then(() => {
      if (this.#closed) throw new FastqError('closed', 'The connection was closed by this program');
      return work(this.#handle);
    });
    this.#last = turn.catch(() => {});
    return turn;
  }

  /** Waits in slices, each on a thread of Node's. False: it was a duplicate. */
  async _await(number, level) {
    for (;;) {
      const code = await this._turn((handle) => onThread(C.wait, handle, number, level, SLICE_NS));
      if (code === 0 || code === DUPLICATE) return code === 0;
      if (code !== TIMED_OUT) throw refused(code);
    }
  }

  async #queue(name) {
    if (!this.#queues.has(name)) {
      const queue = [0];
      await this._turn((handle) => check(C.open_queue(handle, name, queue)));
      this.#queues.set(name, queue[0]);
    }
    return this.#queues.get(name);
  }

  /** Publishes a message and waits for its confirm. Times in milliseconds. */
  async publish(queue, body, { confirm = 'durable', id = randomUUID(), ...options } = {}) {
    const level = levelOf(confirm), to = await this.#queue(queue), bytes = Buffer.from(body), written = properties.write({ id, ...options }), number = [0];
    await this._turn((handle) => check(C.publish(handle, to, bytes, bytes.length, written, written.length, level, number)));
    return { id, duplicate: level !== 0 && !(await this._await(number[0], level)) };
  }

  /** Publishes bodies, or {body, ...options}, and waits once, for all. Resolves to how many. */
  async publishMany(queue, messages, { confirm = 'durable' } = {}) {
    const level = levelOf(confirm), to = await this.#queue(queue);
    let count = 0, chunk = [];
    const send = async () => {
      if (chunk.length === 0) return;
      const pairs = chunk.map((one) => (typeof one === 'string' || one instanceof Uint8Array ? [Buffer.alloc(0), Buffer.from(one)] : [properties.write(one), Buffer.from(one.body)]));
      const bytes = Buffer.concat(pairs.flat()), of = Uint32Array.from(pairs, (pair) => pair[0].length), bodies = Uint32Array.from(pairs, (pair) => pair[1].length);
      const code = await this._turn((handle) => onThread(C.publish_batch, handle, to, bytes, bodies, of, pairs.length, level, null));
      if (code !== 0) throw refused(code);
      count += chunk.length;
      chunk = [];
    };
    for await (const message of messages) {
      chunk.push(message);
      if (chunk.length === BATCH) await send();
    }
    await send();
    await this.flush(confirm);
    return count;
  }

  /** Waits until all that was sent so far is confirmed; rejects with the first refusal that was not told before. */
  async flush(confirm = 'durable') {
    for (;;) {
      const code = await this._turn((handle) => onThread(C.flush, handle, levelOf(confirm), SLICE_NS));
      if (code === 0) return;
      if (code !== TIMED_OUT) throw refused(code);
    }
  }

  /** A consumer of a queue. credit: most messages in hand. lease in milliseconds. mode 'auto': at most once. */
  async subscribe(queue, { credit = 100, lease, mode = 'manual', priority, exclusive } = {}) {
    const handle = [0];
    await this._turn((connection) => check(C.subscribe(connection, queue, lines({ credit, lease: lease && `${lease}ms`, auto: mode === 'auto', priority, exclusive }), handle)));
    return new Subscription(this, queue, handle[0], mode === 'auto');
  }

  /** Makes a queue; attributes by the names of `fastq queue create` in camel case, as {maxDeliveries: 5, lease: '30s', fifo: true}. */
  declareQueue(name, attributes = {}) { return this._turn((handle) => check(C.declare_queue(handle, name, lines(attributes), null))); }

  deleteQueue(name) {
    this.#queues.delete(name);
    return this._turn((handle) => check(C.delete_queue(handle, name)));
  }

  async purge(name) {
    const purged = [0];
    await this._turn((handle) => check(C.purge_queue(handle, name, purged)));
    return Number(purged[0]);
  }

  /** A queue's attributes and counts, with the keys of `fastq queue show --json`. */
  async queue(name) {
    const json = [null];
    await this._turn((handle) => check(C.show_queue(handle, name, json)));
    return JSON.parse(json[0]);
  }

  async queues() {
    const json = [null];
    await this._turn((handle) => check(C.list_queues(handle, json)));
    return JSON.parse(json[0]);
  }

  /** Gives back what is in hand and waits up to 5 seconds for what was sent. */
  async close() {
    if (this.#closed) return;
    await this._turn((handle) => onThread(C.close, handle));
    this.#closed = true;
  }
}

/** A consumer's claim on a queue; an async iterable of messages. */
class Subscription {
  #connection; #handle; #room = Buffer.alloc(MESSAGE_BYTES); #closed = false;

  constructor(connection, queue, handle, isAutomatic) {
    this.#connection = connection;
    this.#handle = handle;
    this.queue = queue;
    this.isAutomatic = isAutomatic;
  }

  _turn(work) { return this.#connection._turn((connection) => work(connection, this.#handle)); }

  _await(number, level) { return this.#connection._await(number, level); }

  /** The next message; null when none came within so many milliseconds. */
  async receive(timeout = Infinity) { return (await this.receiveMany(1, timeout))[0] ?? null; }

  /** Up to so many messages, as soon as one is there; [] when none came within so many milliseconds. */
  async receiveMany(most, timeout = Infinity) {
    const deadline = performance.now() + timeout;
    for (;;) {
      const left = Math.max(0, (deadline - performance.now()) * 1e6);
      const messages = await this._turn((connection) => this.#take(connection, most, Math.floor(Math.min(SLICE_NS, left))));
      if (messages.length > 0 || this.#closed || performance.now() >= deadline) return messages;
    }
  }

  async #take(connection, most, wait) {
    if (this.#room.length < most * MESSAGE_BYTES) this.#room = Buffer.alloc(most * MESSAGE_BYTES);
    const count = [0], room = this.#room;
    let code = C.receive(connection, this.#handle, room, most, 0, count);
    if (code === 0 && Number(count[0]) === 0 && wait > 0) code = await onThread(C.receive, connection, this.#handle, room, most, wait, count);
    if (code !== 0) throw refused(code);
    // All bytes are copied before another call of the connection: what lies in the broker's files may go with any.
    return Array.from({ length: Number(count[0]) }, (_, i) => new Message(this, room.subarray(i * MESSAGE_BYTES, (i + 1) * MESSAGE_BYTES)));
  }

  /** Accepts messages of this subscription, neighbours in one record. */
  async acceptMany(messages, { confirm = 'accepted' } = {}) {
    const level = levelOf(confirm), number = [0];
    await this._turn((connection, handle) => {
      for (let i = 0, next; i < messages.length; i = next) {
        for (next = i + 1; next < messages.length && messages[next]._number === messages[i]._number + next - i && messages[next]._life === messages[i]._life;) next++;
        check(C.settle_range(connection, handle, messages[i]._number, next - i, messages[i]._life, ACCEPT, level, number));
      }
      for (const message of messages) message._forget();
    });
    if (level !== 0 && messages.length > 0) await this._await(number[0], level);
  }

  /** Gives back what it holds, as if it had not been delivered. */
  async close() {
    if (this.#closed) return;
    this.#closed = true;
    await this._turn((connection, handle) => check(C.unsubscribe(connection, handle)));
  }

  async *[Symbol.asyncIterator]() {
    while (!this.#closed) {
      const message = await this.receive();
      if (message !== null) yield message;
    }
  }
}

const copy = (bytes, at, length) => (length === 0 ? Buffer.alloc(0) : Buffer.from(new Uint8Array(koffi.view(bytes.readBigUInt64LE(at), length)))); // Of its own: the view is not kept.

/** A message in hand. Its body is a copy: looked at after the message was settled it throws. */
class Message {
  #subscription; #body; #properties; #settled;

  constructor(subscription, bytes) {
    this.#subscription = subscription;
    this.#settled = false;
    this._number = Number(bytes.readBigUInt64LE(0));
    this._life = bytes.readUInt32LE(60);
    this.tag = Number(bytes.readBigUInt64LE(8));
    this.token = Number(bytes.readBigUInt64LE(16));
    this.timestamp = new Date(Number(bytes.readBigInt64LE(24) / 1000n));
    this.deliveryCount = bytes.readUInt16LE(54);
    this.redelivered = (bytes.readUInt32LE(56) & REDELIVERED) !== 0;
    this.#properties = copy(bytes, 40, bytes.readUInt16LE(52));
    this.#body = (bytes.readUInt32LE(56) & ENCODED) === 0 ? copy(bytes, 32, bytes.readUInt32LE(48)) : Message.#decode(bytes);
  }

  static #decode(bytes) {
    try {
      const size = [0];
      check(C.body_size(bytes, size));
      const body = Buffer.alloc(Number(size[0]));
      check(C.copy_body(bytes, body, body.length));
      return body;
    } catch (error) {
      return error;
    }
  }

  get body() {
    if (this.#settled) throw new FastqError('already-settled', 'The message was settled; its body is not there any more');
    if (this.#body instanceof Error) throw this.#body;
    return this.#body;
  }

  get id() { return this.properties.id ?? String(this.tag); }

  get headers() { return properties.headers(this.#properties); }

  get properties() { return properties.properties(this.#properties); }

  get deadLetter() { return properties.deadLetter(this.#properties); }

  accept({ confirm = 'accepted' } = {}) { return this.#settle((c, s, one, level, number) => C.settle(c, s, one, ACCEPT, level, 0, 0, number), confirm); }

  /** Again, to anybody, after a delay in milliseconds; count false: as if it had not been delivered. */
  release({ delay = 0, count = true, confirm = 'accepted' } = {}) {
    return this.#settle((c, s, one, level, number) => C.settle(c, s, one, RELEASE, level, Math.ceil(delay), count ? 0 : UNCOUNTED, number), confirm);
  }

  /** Never again: to the dead letters, with these words. */
  reject(reason = null, { details = null, confirm = 'accepted' } = {}) { return this.#settle((c, s, one, level, number) => C.reject(c, s, one, reason, details, level, number), confirm); }

  /** The lease begins anew with this length, in milliseconds. */
  extend(lease, { confirm = 'accepted' } = {}) { return this.#settle((c, s, one, level, number) => C.extend(c, s, one, lease, level, number), confirm, false); }

  async #settle(call, confirm, isEnd = true) {
    const level = levelOf(confirm), number = [0], one = Buffer.alloc(MESSAGE_BYTES);
    if (this.#settled) throw new FastqError('already-settled', 'The message was settled before');
    one.writeBigUInt64LE(BigInt(this._number), 0);
    one.writeUInt32LE(this._life, 60);
    await this.#subscription._turn((connection, handle) => {
      check(call(connection, handle, one, level, number));
      if (isEnd) this._forget();
    });
    if (level !== 0) await this.#subscription._await(number[0], level);
  }

  _forget() {
    this.#settled = true;
    this.#body = null;
  }
}

module.exports = { connect, Connection, Subscription, Message, FastqError };
