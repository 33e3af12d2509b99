'use strict';
// How fast the Node binding is, in batches: rate.js SOCKET LEVEL COUNT. A producer and a consumer process, every message checked.
const { fork } = require('node:child_process');
const { once } = require('node:events');
const fastq = require(process.env.FASTQ_NODE ?? 'fastq');

const BYTES = 100, BATCH = 1000;

async function consume(socket, level, count) {
  const c = await fastq.connect({ path: socket, clientName: 'rate consumer' }), s = await c.subscribe('rate', { credit: 10000 });
  for (let expected = 0; expected < count;) {
    const messages = await s.receiveMany(BATCH, 60000);
    for (const m of messages) {
      const body = m.body;
      if (body.length !== BYTES || body.readUInt32LE(0) !== expected) throw new Error(`message ${expected} is not what was sent`);
      expected++;
    }
    await s.acceptMany(messages, { confirm: 'none' });
  }
  await c.flush(level);
  await c.close();
}

function* bodies(count) {
  for (let i = 0; i < count; i++) {
    const body = Buffer.allocUnsafe(BYTES).fill('.');
    body.writeUInt32LE(i, 0);
    yield body;
  }
}

async function main(socket, level, count) {
  const c = await fastq.connect({ path: socket });
  await c.declareQueue('rate');
  const other = fork(__filename, [socket, level, String(count), 'consume']), began = performance.now();
  await c.publishMany('rate', bodies(count), { confirm: level });
  const [code] = await once(other, 'exit');
  const seconds = (performance.now() - began) / 1000;
  await c.deleteQueue('rate');
  await c.close();
  console.log(JSON.stringify({ client: 'node', scenario: 'throughput', level, bytes: BYTES, count, rate: Math.round(count / seconds) }));
  process.exitCode = code;
}

const [socket, level, count, role] = process.argv.slice(2);
(role === 'consume' ? consume : main)(socket, level, Number(count));
