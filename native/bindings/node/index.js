'use strict';
// FastQ from Node: queues over shared memory, through libfastq. What may wait runs on Node's own threads, one call of a connection after the other.
//
//   index.js (connect) -> connection.js -> subscription.js, transaction.js -> library.js (koffi), properties.js

const { ABI, C, FastqError, onThread, refused } = require('./library.js');
const { Connection, Reply } = require('./connection.js');
const { Message, Subscription } = require('./subscription.js');
const { Transaction } = require('./transaction.js');

/** Connects to the broker. patience: for so many seconds it is waited for, now and after its restarts. */
async function connect({ path: socket = null, clientName = 'node', patience = 15 } = {}) {
  const handle = [0];
  const code = await onThread(C.open, ABI, socket, `name=${clientName.replaceAll('\n', ' ')}\npatience=${Math.ceil(patience * 1000)}ms`, handle);
  if (code !== 0) throw refused(code, `No connection to ${socket ?? 'the default socket'}`);
  return new Connection(handle[0]);
}

module.exports = { connect, Connection, Subscription, Message, Reply, Transaction, FastqError };
