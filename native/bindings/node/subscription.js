'use strict';
// Consuming: subscriptions and the messages that they hand out.

const {
  MESSAGE_BYTES, ACCEPT, RELEASE, UNCOUNTED, LAST, FAILED, END, ADDRESS, SLICE_NS, C, FastqError, levelOf, onThread, refused, check, at, copy,
  addressOf,
} = require('./library.js');
const properties = require('./properties.js');

const ENCODED = 2, REDELIVERED = 1;

/** A consumer's claim on a queue; an async iterable of messages. */
class Subscription {
  #connection; #handle; #room = Buffer.alloc(MESSAGE_BYTES); #closed = false;

  constructor(connection, queue, handle, isAutomatic) {
    this.#connection = connection;
    this.#handle = handle;
    this.queue = queue;
    this.isAutomatic = isAutomatic;
  }

  get _connection() { return this.#connection; }

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
    return this.#copied(Number(count[0]));
  }

  /** All bytes are copied, by one call, before another call of the connection: what lies in the broker's files may go with any. */
  #copied(count) {
    const room = Buffer.from(this.#room.subarray(0, count * MESSAGE_BYTES)), messages = new Array(count);
    let length = 0;
    for (let i = 0; i < count; i++) length += room.readUInt32LE(i * MESSAGE_BYTES + 48) + room.readUInt16LE(i * MESSAGE_BYTES + 52);
    const data = Buffer.allocUnsafeSlow(length);
    if (count > 0) check(C.copy_messages(room, count, data, length, [0]));
    for (let i = 0, place = 0; i < count; i++) {
      const bytes = room.subarray(i * MESSAGE_BYTES, (i + 1) * MESSAGE_BYTES);
      messages[i] = new Message(this, bytes, data, place);
      place += bytes.readUInt32LE(48) + bytes.readUInt16LE(52);
    }
    return messages;
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

/** A message in hand. Its body is a copy: looked at after the message was settled it throws. */
class Message {
  #bytes; #data; #at; #body = null; #settled = false; #parts = 0;

  constructor(subscription, bytes, data, place) {
    // Many are made in a moment: all that may wait is worked out when it is asked for.
    this._subscription = subscription;
    this.#bytes = bytes;
    this.#data = data;
    this.#at = place;
    if ((bytes.readUInt32LE(56) & ENCODED) !== 0) this.#body = Message.#decode(bytes);
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

  get _number() { return Number(this.#bytes.readBigUInt64LE(0)); }

  get _life() { return this.#bytes.readUInt32LE(60); }

  get tag() { return Number(this.#bytes.readBigUInt64LE(8)); }

  get token() { return Number(this.#bytes.readBigUInt64LE(16)); }

  get timestamp() { return new Date(Number(this.#bytes.readBigInt64LE(24) / 1000n)); }

  get deliveryCount() { return this.#bytes.readUInt16LE(54); }

  get redelivered() { return (this.#bytes.readUInt32LE(56) & REDELIVERED) !== 0; }

  get #properties() { return this.#data.subarray(this.#at, this.#at + this.#bytes.readUInt16LE(52)); }

  get body() {
    if (this.#settled) throw new FastqError('already-settled', 'The message was settled; its body is not there any more');
    if (this.#body instanceof Error) throw this.#body;
    const start = this.#at + this.#bytes.readUInt16LE(52);
    this.#body ??= this.#data.subarray(start, start + this.#bytes.readUInt32LE(48));
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

  get replyTo() { return this.properties.replyTo ?? null; }

  /** Somebody waits for a reply. */
  get isRequest() { return this.replyTo !== null; }

  /**
   * Answers a request, and accepts it: both at once. options: confirm, headers, type and others of publish. Resolves to false: nobody waits for it any more; it is
   * accepted all the same. Where replyTo is a queue's name, the reply is published there, with the request's correlation id (or its id), before it is accepted.
   */
  reply(body, { confirm = 'written', ...options } = {}) { return this.#last(Buffer.from(body), options, LAST, confirm); }

  /** Says that the request failed, in a word for programs and a sentence for people, and accepts it. */
  replyError(code, words = '', { confirm = 'written' } = {}) { return this.#last(Buffer.from(words), { type: code }, LAST | FAILED, confirm); }

  /** Sends a part of the answer; resolves when it is in the requester's memory, to false when nobody waits for it any more. The request stays in hand. */
  replyPart(body, options = {}) { return this._subscription._connection._sendReply(this.#address(), Buffer.from(body), properties.write(options), this.#parts++, 0); }

  /** No more parts come: accepts the request. */
  endReply({ confirm = 'written' } = {}) { return this.#last(Buffer.alloc(0), {}, LAST | END, confirm); }

  #address() {
    if (!this.replyTo?.startsWith(ADDRESS)) throw new FastqError('bad-argument', 'This message is no request: it has no address for replies');
    return this.replyTo;
  }

  async #last(body, options, flags, confirm) {
    if (this.isRequest && !this.replyTo.startsWith(ADDRESS)) {
      await this._subscription._connection.publish(this.replyTo, body, { correlationId: this.properties.correlationId ?? this.id, ...options });
      await this.accept({ confirm });
      return true;
    }
    this.#address();
    if (this.#settled) throw new FastqError('already-settled', 'The message was settled before');
    const level = levelOf(confirm), number = [0], written = properties.write(options), mine = Buffer.from(this.#properties), one = this._handle();
    one.writeBigUInt64LE(BigInt(addressOf(mine)), 40);
    one.writeUInt16LE(mine.length, 52);
    await this._subscription._turn((connection, handle) => {
      check(C.reply_to(connection, handle, one, body, body.length, written, written.length, this.#parts++, flags, level, number));
      this._forget();
    });
    return level === 0 || this._subscription._await(number[0], level);
  }

  /** Accepts it and marks a key of its queue as processed, in one step: {first, result, late}. A second mark changes nothing, and tells the result of the first. */
  acceptProcessed(key, result = '') {
    const bytes = Buffer.from(result), told = Buffer.alloc(24);
    return this._subscription._turn((connection, handle) => {
      check(C.accept_processed(connection, handle, this._handle(), key, bytes, bytes.length, told));
      this._forget();
      return { first: told.readUInt32LE(16) !== 0, result: copy(told, 0, Number(told.readBigUInt64LE(8))), late: told.readUInt32LE(20) !== 0 };
    });
  }

  async #settle(call, confirm, isEnd = true) {
    const level = levelOf(confirm), number = [0];
    if (this.#settled) throw new FastqError('already-settled', 'The message was settled before');
    await this._subscription._turn((connection, handle) => {
      check(call(connection, handle, this._handle(), level, number));
      if (isEnd) this._forget();
    });
    if (level !== 0) await this._subscription._await(number[0], level);
  }

  /** What the library wants of a message. */
  _handle() {
    const one = Buffer.alloc(MESSAGE_BYTES);
    this.#bytes.copy(one, 0, 0, 8);
    this.#bytes.copy(one, 60, 60, 64);
    return one;
  }

  _forget() {
    this.#settled = true;
    this.#body = null;
  }
}

module.exports = { Subscription, Message };
