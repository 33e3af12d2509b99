'use strict';
// A connection: publishing, queues, exchanges, requests, schedules, single messages.

const { randomUUID } = require('node:crypto');
const {
  TIMED_OUT, DUPLICATE, NO_REQUESTER, OPTIONAL, COUNTED, ANY_HEADER, TO_EXCHANGE, LAST, FAILED, END, WAITS_FOR_RESPONDER, ADDRESS, SLICE_NS, C,
  FastqError, levelOf, onThread, refused, check, lines, at, copy, target,
} = require('./library.js');
const properties = require('./properties.js');
const { Subscription } = require('./subscription.js');
const { GONE, Transaction } = require('./transaction.js');

const REPLY_BYTES = 32, BROWSED_BYTES = 96, BATCH = 1000;
const TIMELINESS = ['in-time', 'handed-out', 'gone'];
const STATES = { 1: 'ready', 2: 'in-flight', 3: 'damaged', 4: 'delayed', 5: 'dead-lettering' };

/** A message as `fastq browse --json` shows it, with its body as a Buffer. */
function browsed(queue, bytes) {
  const number = (place) => Number(bytes.readBigInt64LE(place)), written = copy(bytes, 48, bytes.readUInt32LE(68)), state = STATES[bytes.readUInt32LE(76)] ?? 'damaged';
  return {
    queue, tag: number(0), state, deliveries: bytes.readUInt32LE(80), owner: bytes.readBigUInt64LE(56) === 0n ? null : String(copy(bytes, 56, bytes.readUInt32LE(72))),
    leaseLeft: state === 'in-flight' ? number(24) : null, due: number(16) === 0 ? null : new Date(number(16) / 1000), timestamp: number(8) === 0 ? null : new Date(number(8) / 1000),
    body: copy(bytes, 40, bytes.readUInt32LE(64)), bodyBytes: number(32), properties: properties.properties(written), headers: properties.headers(written), deadLetter: properties.deadLetter(written),
  };
}

/** A reply to a request, or a part of one. */
class Reply {
  #properties;

  constructor(body, written) {
    this.body = body;
    this.#properties = written;
  }

  get id() { return this.properties.id ?? null; }

  get type() { return this.properties.type ?? null; }

  get correlationId() { return this.properties.correlationId ?? null; }

  get headers() { return properties.headers(this.#properties); }

  get properties() { return properties.properties(this.#properties); }
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

  /** Waits in slices, each on a thread of Node's. False: it was a duplicate, or a reply that nobody waits for. */
  async _await(number, level) {
    for (;;) {
      const code = await this._turn((handle) => onThread(C.wait, handle, number, level, SLICE_NS));
      if (code === 0 || code === DUPLICATE || code === NO_REQUESTER) return code === 0;
      if (code !== TIMED_OUT) throw refused(code);
    }
  }

  /** The broker's number of a queue, or of an exchange. */
  async _number(queue, exchange) {
    const known = exchange == null ? `q ${queue}` : `e ${exchange}`;
    if (!this.#queues.has(known)) {
      const found = [0];
      await this._turn((handle) => check(exchange == null ? C.open_queue(handle, queue, found) : C.open_exchange(handle, exchange, found)));
      this.#queues.set(known, found[0]);
    }
    return this.#queues.get(known);
  }

  /** What goes to a queue that was deleted and made anew since it was looked up goes to the new one. */
  async _again(queue, exchange, work) {
    const to = await this._number(queue, exchange);
    try {
      return await work(to);
    } catch (error) {
      if (!GONE.has(error.code)) throw error;
      this.#queues.delete(exchange == null ? `q ${queue}` : `e ${exchange}`);
      const again = await this._number(queue, exchange);
      if (again === to) throw error;
      return work(again);
    }
  }

  /** A call that gives JSON. */
  async _ask(call, ...parameters) {
    const json = [null];
    await this._turn((handle) => check(call(handle, ...parameters, json)));
    return JSON.parse(json[0]);
  }

  /**
   * Publishes a message and waits for its confirm. Times in milliseconds. exchange, with queue null: to every queue that the exchange gives it to, by its
   * routing key `key`; optional: that it reaches none is fine. A queue that is a request's replyTo: the message is the reply.
   */
  async publish(queue, body, { confirm = 'durable', id = randomUUID(), exchange = null, key = null, optional = false, ...options } = {}) {
    const level = levelOf(confirm), bytes = Buffer.from(body), written = properties.write({ id, ...target(queue, exchange, key), ...options });
    if (exchange === null && queue.startsWith(ADDRESS)) {
      if (!(await this._sendReply(queue, bytes, written, 0, LAST))) throw new FastqError('no-requester', 'Nobody waits for this reply any more');
      return { id, duplicate: false, queues: 0 };
    }
    const flags = exchange === null ? 0 : (level > 0 ? COUNTED : 0) | (optional ? OPTIONAL : 0);
    return this._again(queue, exchange, async (to) => {
      const number = [0];
      await this._turn((handle) => check(C.publish(handle, to, bytes, bytes.length, written, written.length, level | flags, number)));
      if (level !== 0 && !(await this._await(number[0], level))) return { id, duplicate: true, queues: 0 };
      return { id, duplicate: false, queues: flags & COUNTED ? await this.#routed(number[0]) : level > 0 ? 1 : null };
    });
  }

  /** null: not known, as a reconnect came between. */
  async #routed(number) {
    const queues = [0];
    await this._turn((handle) => check(C.routed(handle, number, queues)));
    return Number(queues[0]) < 0 ? null : Number(queues[0]);
  }

  /** Publishes bodies, or {body, ...options}, to a queue or (queue null) to the exchange that each names, and waits once, for all. Resolves to how many. */
  async publishMany(queue, messages, { confirm = 'durable' } = {}) {
    const level = levelOf(confirm);
    let count = 0, chunk = [];
    const send = async () => {
      for (let i = 0, next; i < chunk.length; i = next) {
        const exchange = chunk[i].exchange ?? null;
        for (next = i + 1; next < chunk.length && (chunk[next].exchange ?? null) === exchange && !chunk[next].optional === !chunk[i].optional;) next++;
        await this.#sendBatch(queue, exchange, chunk.slice(i, next), level | (exchange !== null && chunk[i].optional ? OPTIONAL : 0));
      }
      count += chunk.length;
      chunk = [];
    };
    if (messages[Symbol.iterator]) { // Without a promise for each.
      for (const message of messages) if (chunk.push(message) === BATCH) await send();
    } else {
      for await (const message of messages) if (chunk.push(message) === BATCH) await send();
    }
    await send();
    await this.flush(confirm);
    return count;
  }

  async #sendBatch(queue, exchange, messages, level) {
    if (messages.length === 0) return;
    const to = await this._number(exchange === null ? queue : null, exchange);
    const heads = new Uint32Array(messages.length), bodies = new Uint32Array(messages.length), written = new Array(messages.length);
    let total = 0;
    messages.forEach((one, i) => {
      const isBare = typeof one === 'string' || one instanceof Uint8Array, body = isBare ? one : one.body;
      if (!isBare) {
        const { key = null, exchange: _, optional: __, body: ___, ...options } = one;
        written[i] = properties.write({ ...target(exchange === null ? queue : null, exchange, key), ...options });
        heads[i] = written[i].length;
      }
      bodies[i] = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
      total += heads[i] + bodies[i];
    });
    const bytes = Buffer.allocUnsafe(total);
    let at = 0;
    messages.forEach((one, i) => {
      const body = typeof one === 'string' || one instanceof Uint8Array ? one : one.body;
      if (heads[i] > 0) written[i].copy(bytes, at);
      at += heads[i];
      if (typeof body === 'string') bytes.write(body, at);
      else bytes.set(body, at);
      at += bodies[i];
    });
    const code = await this._turn((handle) => onThread(C.publish_batch, handle, to, bytes, bodies, heads, messages.length, level, null));
    if (code !== 0) throw refused(code);
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

  /**
   * Makes a queue; attributes by the names of `fastq queue create` in camel case, as {maxDeliveries: 5, lease: '30s', fifo: true, rate: '10/s'}. session: it
   * is this connection's alone, and goes with it; with name null it gets a name that nobody else has. Resolves to its name.
   */
  async declareQueue(name, { session, ...attributes } = {}) {
    if (name == null && !session) throw new FastqError('bad-argument', 'A queue without a name is one of a session\'s own: session: true');
    return (await this._ask(C.declare_queue, name ?? null, lines({ ...attributes, temporary: session }))).name;
  }

  /** Gives a queue other attributes while it runs; those that are not named stay. */
  changeQueue(name, attributes) { return this._ask(C.change_queue, name, lines(attributes)); }

  /** Stops a queue's ways; pauseQueue(name, false, false) lets both go on. */
  pauseQueue(name, comesIn = true, goesOut = true) { return this._turn((handle) => check(C.pause_queue(handle, name, (comesIn ? 1 : 0) | (goesOut ? 2 : 0)))); }

  /** A queue's consumers, with the keys of `fastq queue consumers --json`; `subscription` says which it is. */
  consumers(name) { return this._ask(C.list_consumers, name); }

  /** Lets one consumer of a queue stand still, or go on; kept over restarts. What it holds stays its own. */
  pauseConsumer(name, subscription, isPaused = true) { return this._turn((handle) => check(C.pause_consumer(handle, name, subscription, isPaused ? 1 : 0))); }

  deleteQueue(name) {
    this.#queues.delete(`q ${name}`);
    return this._turn((handle) => check(C.delete_queue(handle, name)));
  }

  async purge(name) {
    const purged = [0];
    await this._turn((handle) => check(C.purge_queue(handle, name, purged)));
    return Number(purged[0]);
  }

  /** A queue's attributes and counts, with the keys of `fastq queue show --json`. */
  queue(name) { return this._ask(C.show_queue, name); }

  queues() { return this._ask(C.list_queues); }

  /** The broker's figures, as `fastq stats --json`. */
  stats() { return this._ask(C.show_statistics); }

  // ---- exchanges

  /** Makes an exchange of type direct, topic, fanout or headers; alternate: the one that gets what this one gives to nobody. */
  declareExchange(name, { type = 'topic', alternate } = {}) { return this._turn((handle) => check(C.declare_exchange(handle, name, lines({ type, alternate }), null))); }

  deleteExchange(name) {
    this.#queues.delete(`e ${name}`);
    return this._turn((handle) => check(C.delete_exchange(handle, name)));
  }

  /** An exchange with its bindings, with the keys of `fastq exchange show --json`. */
  exchange(name) { return this._ask(C.show_exchange, name); }

  exchanges() { return this._ask(C.list_exchanges); }

  /** Has an exchange give to a queue (toExchange: to another exchange) what key, or headers, choose. match: 'all' or 'any' of the headers. */
  bind(exchange, queue, options = {}) { return this.#changeBinding(C.bind, exchange, queue, options); }

  /** Ends the binding that was made with the same arguments. */
  unbind(exchange, queue, options = {}) { return this.#changeBinding(C.unbind, exchange, queue, options); }

  #changeBinding(call, exchange, queue, { key = '', headers, match = 'all', toExchange = false }) {
    const written = properties.write({ headers });
    return this._turn((handle) => check(call(handle, exchange, queue, key, written, written.length, (match === 'any' ? ANY_HEADER : 0) | (toExchange ? TO_EXCHANGE : 0))));
  }

  // ---- transactions

  /** Messages and settlements that take effect together when `work` has ended, or, when it throws, not at all. timeout in milliseconds. Resolves to what work gave. */
  async transaction(work, { timeout = 30000, confirm = 'durable' } = {}) {
    const handle = [0], level = levelOf(confirm);
    await this._turn((connection) => check(C.begin(connection, Math.ceil(timeout), handle)));
    const transaction = new Transaction(this, handle[0]);
    let result;
    try {
      result = await work(transaction);
    } catch (error) {
      await this._turn((connection) => C.rollback(connection, handle[0])).catch(() => {});
      throw error;
    }
    await transaction._commit(level);
    return result;
  }

  _forgetQueues() { this.#queues.clear(); }

  // ---- request and reply

  /**
   * Sends a request, and resolves to the reply. Rejects with timed-out; no-responder (the queue has no consumer, or the one that had the request ended
   * without a reply; waitForResponder: it waits for one); unknown-queue; where the responder says that it failed, the code that it gave.
   */
  async request(queue, body, options = {}) {
    for await (const reply of this.requestStream(queue, body, options)) return reply;
    throw new FastqError('failed', 'The answer has no part');
  }

  /** The same for an answer in parts; timeout, in milliseconds, is that of each. Leaving the loop tells the responder that no more are wanted. */
  async *requestStream(queue, body, { timeout = 30000, waitForResponder = false, ...options } = {}) {
    const bytes = Buffer.from(body), written = properties.write(options);
    const send = (to) => this._turn((handle) => {
      const number = [0];
      check(C.request(handle, to, bytes, bytes.length, written, written.length, Math.ceil(timeout), waitForResponder ? WAITS_FOR_RESPONDER : 0, number));
      return number[0];
    });
    let number = await this._again(queue, null, send), isOver = false, isFirst = true;
    try {
      while (!isOver) {
        let taken;
        try {
          taken = await this.#takeReply(number, performance.now() + timeout);
        } catch (error) {
          isOver = error.code !== 'timed-out';
          if (!isFirst || !GONE.has(error.code)) throw error;
          isFirst = false; // One that a queue of an earlier life has refused goes to the queue that has its name now.
          this.#queues.delete(`q ${queue}`);
          number = await send(await this._number(queue, null));
          isOver = false;
          continue;
        }
        isFirst = false;
        isOver = (taken.flags & LAST) !== 0;
        if (taken.flags & FAILED) throw new FastqError(taken.reply.type ?? 'failed', String(taken.reply.body));
        if (!(taken.flags & END)) yield taken.reply;
      }
    } finally {
      if (!isOver) await this._turn((handle) => C.end_request(handle, number)).catch(() => {});
    }
  }

  async #takeReply(number, deadline) {
    const room = Buffer.alloc(REPLY_BYTES);
    for (;;) {
      const left = Math.max(0, Math.floor(Math.min(SLICE_NS, (deadline - performance.now()) * 1e6)));
      const taken = await this._turn(async (handle) => {
        let code = C.receive_reply(handle, number, 0, room);
        if (code === TIMED_OUT && left > 0) code = await onThread(C.receive_reply, handle, number, left, room);
        if (code === TIMED_OUT) return null;
        if (code !== 0) throw refused(code);
        return { flags: room.readUInt32LE(28), reply: new Reply(copy(room, 0, room.readUInt32LE(16)), copy(room, 8, room.readUInt32LE(20))) };
      });
      if (taken !== null) return taken;
      if (performance.now() >= deadline) throw new FastqError('timed-out', `No reply to request ${number} in time`);
    }
  }

  /** False: nobody waits for it any more. */
  async _sendReply(address, bytes, written, part, flags) {
    const number = [0];
    await this._turn((handle) => check(C.send_reply(handle, address, bytes, bytes.length, written, written.length, part, flags, number)));
    return this._await(number[0], 0);
  }

  // ---- schedules

  /** Removes the message that waits under a schedule key: 'in-time', 'handed-out' or 'gone'. */
  cancelScheduled(queue, key) { return this.#changeScheduled(C.cancel_scheduled, queue, key); }

  /** Gives it another time: in so many milliseconds, or at a Date. */
  reschedule(queue, key, { delay, at } = {}) {
    return at ? this.#changeScheduled(C.reschedule_at, queue, key, BigInt(at.getTime()) * 1000n) : this.#changeScheduled(C.reschedule, queue, key, Math.ceil(delay ?? 0));
  }

  async #changeScheduled(call, queue, key, ...time) {
    const timeliness = [0];
    await this._turn((handle) => check(call(handle, queue, key, ...time, timeliness)));
    return TIMELINESS[timeliness[0]];
  }

  /** Makes a schedule, or replaces it: every so many milliseconds, or by a cron expression in a time zone. message: what goes with each message. */
  setSchedule(name, queue, body, { every, cron, zone, missed, until, count, ...message } = {}) {
    const bytes = Buffer.from(body), written = properties.write(message);
    const rule = lines({ every: every && `${Math.ceil(every)}ms`, cron, zone, missed, until: until && BigInt(until.getTime()) * 1000n, count });
    return this._ask(C.set_schedule, name, queue, rule, bytes, bytes.length, written, written.length);
  }

  deleteSchedule(name) { return this._turn((handle) => check(C.delete_schedule(handle, name))); }

  pauseSchedule(name, isPaused = true) { return this._ask(C.pause_schedule, name, isPaused ? 1 : 0); }

  schedules() { return this._ask(C.list_schedules); }

  // ---- limits that queues share

  declareLimit(name, limits = {}) { return this._ask(C.declare_limit, name, lines(limits)); }

  changeLimit(name, limits) { return this._ask(C.change_limit, name, lines(limits)); }

  deleteLimit(name) { return this._turn((handle) => check(C.delete_limit(handle, name))); }

  limits() { return this._ask(C.list_limits); }

  // ---- what was processed

  /** The result with which a key of a queue was marked (Message.acceptProcessed); null: it is not. */
  findProcessed(queue, key) {
    const result = [0n], length = [0];
    return this._turn((handle) => {
      check(C.find_processed(handle, queue, key, result, length));
      return Number(result[0]) === 0 ? null : at(result[0], Number(length[0]));
    });
  }

  // ---- single messages

  /** Messages in their places, without taking them: {tag, state, deliveries, body, ...}. */
  async browse(queue, { max = 100, filter = null } = {}) {
    const seen = [], tag = [0], count = [0], room = Buffer.alloc(32 * BROWSED_BYTES);
    do {
      await this._turn((handle) => {
        check(C.browse(handle, queue, filter, tag, room, Math.min(32, max - seen.length), count));
        for (let i = 0; i < Number(count[0]); i++) seen.push(browsed(queue, room.subarray(i * BROWSED_BYTES, (i + 1) * BROWSED_BYTES)));
      });
    } while (seen.length < max && Number(tag[0]) !== 0);
    return seen;
  }

  /** The place of a message: of that id, else, where the id is a number, of that place. */
  async #tag(queue, id) {
    if (typeof id === 'number') return id;
    const found = (await this.browse(queue, { max: Infinity, filter: id.includes('"') ? null : `id="${id}"` })).find((one) => one.properties.id === id);
    if (found === undefined && !/^\d+$/.test(id)) throw new FastqError('bad-argument', `Queue ${queue} has no message ${id}`);
    return found?.tag ?? Number(id);
  }

  /** Removes one message that is with nobody, by its id or its place. */
  async deleteMessage(queue, id) {
    const tag = await this.#tag(queue, id);
    await this._turn((handle) => check(C.delete_message(handle, queue, tag)));
  }

  /** Gives one message that waits another priority, or another time: due in so many milliseconds, or at a Date. */
  async changeMessage(queue, id, { priority = -1, due } = {}) {
    const tag = await this.#tag(queue, id), delay = due === undefined ? -1 : Math.max(0, Math.ceil(due instanceof Date ? due.getTime() - Date.now() : due));
    await this._turn((handle) => check(C.change_message(handle, queue, tag, priority, delay)));
  }

  /** Moves one message that is with nobody to another queue. */
  async moveMessage(queue, id, to) {
    if ((await this.#move(queue, to, null, 0, await this.#tag(queue, id))).done !== 1) throw new FastqError('denied', `Message ${id} of queue ${queue} is not there, or with a consumer`);
  }

  /** Moves the messages of a dead-letter queue back to where they died, or to another queue; waits for the end. Resolves to how many. */
  async redrive(queue, { to = null, filter = null, rate = 0 } = {}) { return (await this.#move(queue, to, filter, rate, 0)).done; }

  async #move(queue, to, filter, rate, tag) {
    let sweep = await this._ask(C.start_move, queue, to, filter, rate, tag);
    for (let wait = 1; sweep.state === 'running'; wait = Math.min(wait * 2, 200)) {
      await new Promise((resolve) => { setTimeout(resolve, wait); });
      sweep = await this._ask(C.show_move, queue);
    }
    return sweep;
  }

  /** Gives back what is in hand and waits up to 5 seconds for what was sent. */
  async close() {
    if (this.#closed) return;
    await this._turn((handle) => onThread(C.close, handle));
    this.#closed = true;
  }
}

module.exports = { Connection, Reply };
