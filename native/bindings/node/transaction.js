'use strict';
// Messages and settlements that take effect together, or not at all.

const { randomUUID } = require('node:crypto');
const {
  ACCEPT, RELEASE, UNCOUNTED, OPTIONAL, C, FastqError, check, target,
} = require('./library.js');
const properties = require('./properties.js');

const GONE = new Set(['unknown-queue', 'queue-deleted', 'unknown-exchange']);

/** Messages and settlements that take effect together: made by Connection.transaction. */
class Transaction {
  #connection; #handle; #messages = [];

  constructor(connection, handle) {
    this.#connection = connection;
    this.#handle = handle;
  }

  /** Adds a message; options as those of Connection.publish. Resolves to its id. */
  async publish(queue, body, { id = randomUUID(), exchange = null, key = null, optional = false, ...options } = {}) {
    const bytes = Buffer.from(body), written = properties.write({ id, ...target(queue, exchange, key), ...options }), to = await this.#connection._number(queue, exchange);
    await this.#connection._turn((handle) => check(C.add_publish(handle, this.#handle, to, bytes, bytes.length, written, written.length, optional && exchange !== null ? OPTIONAL : 0)));
    return id;
  }

  /** Adds that a message is done with. It stays in hand until the commit; so with the others. */
  accept(message) { return this.#settle(message, (handle, s, one) => C.add_settle(handle, this.#handle, s, one, ACCEPT, 0, 0)); }

  release(message, { delay = 0, count = true } = {}) { return this.#settle(message, (handle, s, one) => C.add_settle(handle, this.#handle, s, one, RELEASE, Math.ceil(delay), count ? 0 : UNCOUNTED)); }

  reject(message, reason = null, { details = null } = {}) { return this.#settle(message, (handle, s, one) => C.add_reject(handle, this.#handle, s, one, reason, details)); }

  async #settle(message, add) {
    if (message._subscription._connection !== this.#connection) throw new FastqError('bad-argument', 'A transaction settles what came by its own connection');
    await message._subscription._turn((handle, s) => check(add(handle, s, message._handle())));
    this.#messages.push(message);
  }

  async _commit(level) {
    const number = [0];
    await this.#connection._turn((handle) => check(C.commit_transaction(handle, this.#handle, level, number)));
    try {
      if (Number(number[0]) !== 0) await this.#connection._await(number[0], Math.max(level, 1));
    } catch (error) {
      if (GONE.has(error.code)) this.#connection._forgetQueues();
      throw error;
    }
    for (const message of this.#messages) message._forget();
  }
}

module.exports = { Transaction, GONE };
