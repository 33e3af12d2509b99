'use strict';
// The Node binding against a real broker: FASTQ_BROKER names the binary, FASTQ_LIB the library.
const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const test = require('node:test');
const fastq = require('..');

let broker, socket, folder;

async function start() {
  broker = spawn(process.env.FASTQ_BROKER, ['serve', '--data', path.join(folder, 'data'), '--socket', socket], { stdio: ['ignore', 'pipe', 'ignore'] });
  const [line] = await once(broker.stdout, 'data');
  assert.match(String(line), /^ready/);
}

async function kill(how) {
  broker.kill(how);
  await once(broker, 'exit');
}

test.before(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'fastq-node-'));
  socket = path.join(folder, 'fastq.sock');
  await start();
});

test.after(async () => {
  await kill('SIGKILL');
  fs.rmSync(folder, { recursive: true });
});

const refused = (code) => (error) => error.code === code;

test('a message comes as it was published, and a settled body throws', async () => {
  const c = await fastq.connect({ path: socket });
  const headers = { text: 'blue', yes: true, count: -7, ratio: 0.5, list: [1, 'a', [2.5]], table: { a: { b: false } }, when: new Date(1770000000000) };
  await c.declareQueue('first', { maxDeliveries: 5, lease: '30s' });
  assert.deepEqual(await c.publish('first', 'body', { id: 'order-17', headers, type: 'order', priority: 7 }), { id: 'order-17', duplicate: false });
  const s = await c.subscribe('first');
  const m = await s.receive(10000);
  assert.equal(String(m.body), 'body');
  assert.deepEqual([m.id, m.deliveryCount, m.redelivered, m.deadLetter], ['order-17', 1, false, null]);
  assert.deepEqual(m.headers, headers);
  assert.deepEqual(m.properties, { id: 'order-17', type: 'order', priority: 7 });
  await m.accept();
  assert.throws(() => m.body, refused('already-settled'));
  await assert.rejects(m.accept(), refused('already-settled'));
  assert.equal(await s.receive(0), null);
  assert.equal((await c.queue('first')).messages, 0);
  await c.close();
  await assert.rejects(c.publish('first', 'x'), refused('closed'));
});

test('many are published, received and accepted in batches', async () => {
  const c = await fastq.connect({ path: socket });
  await c.declareQueue('many');
  assert.equal(await c.publishMany('many', Array.from({ length: 3000 }, (_, i) => (i % 2 ? `${i}` : { body: `${i}`, headers: { i } }))), 3000);
  const s = await c.subscribe('many', { credit: 500 });
  for (let seen = 0; seen < 3000;) {
    const messages = await s.receiveMany(100, 10000);
    for (const m of messages) {
      assert.equal(String(m.body), `${seen}`);
      assert.deepEqual(m.headers, seen % 2 ? {} : { i: seen });
      seen++;
    }
    await s.acceptMany(messages, { confirm: 'none' });
  }
  await c.flush('durable');
  assert.equal((await c.queue('many')).accepted, 3000);
  await c.close();
});

test('a loop waits while others publish, and ends with its subscription', async () => {
  const c = await fastq.connect({ path: socket });
  await c.declareQueue('loop');
  const s = await c.subscribe('loop'), seen = [];
  const loop = (async () => {
    for await (const m of s) {
      seen.push(Number(m.body));
      await m.accept({ confirm: 'none' });
      if (seen.length === 50) await s.close();
    }
  })();
  for (let i = 0; i < 50; i++) await c.publish('loop', `${i}`, { confirm: 'accepted' });
  await loop;
  assert.deepEqual(seen, Array.from({ length: 50 }, (_, i) => i));
  await c.close();
});

test('released, rejected, duplicate and refused messages are told', async () => {
  const c = await fastq.connect({ path: socket });
  await c.declareQueue('mail', { maxLength: 1 });
  await c.publish('mail', 'x', { dedupId: 'd' });
  assert.equal((await c.publish('mail', 'x', { dedupId: 'd' })).duplicate, true);
  await assert.rejects(c.publish('mail', 'y'), refused('limit-reached'));
  await assert.rejects(c.publish('nowhere', 'y'), refused('unknown-queue'));
  const s = await c.subscribe('mail');
  await (await s.receive(10000)).release();
  const m = await s.receive(10000);
  assert.equal(m.deliveryCount, 2);
  await m.extend(60000);
  await m.reject('no such address');
  const dead = await (await c.subscribe('mail.dead')).receive(10000);
  assert.deepEqual([dead.deadLetter.source, dead.deadLetter.reason, dead.deadLetter.text], ['mail', 'rejected', 'no such address']);
  await c.close();
});

test('restarts of the broker are ridden out', async () => {
  const c = await fastq.connect({ path: socket, patience: 60 });
  await c.declareQueue('work');
  const s = await c.subscribe('work');
  await c.publish('work', 'held');
  const m = await s.receive(10000);
  await kill('SIGKILL');
  const sent = c.publish('work', 'after');
  await start();
  await sent;
  await m.accept({ confirm: 'durable' });
  assert.equal(String((await s.receive(10000)).body), 'after');
  await c.close();
});
