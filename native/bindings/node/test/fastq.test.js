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
  assert.deepEqual(await c.publish('first', 'body', { id: 'order-17', headers, type: 'order', priority: 7 }), { id: 'order-17', duplicate: false, queues: 1 });
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

test('an exchange gives to the queues that its bindings choose, and tells how many', async () => {
  const c = await fastq.connect({ path: socket });
  await c.declareExchange('events', { type: 'topic' });
  for (const [name, key] of [['orders', 'order.*'], ['audit', '#']]) {
    assert.equal(await c.declareQueue(name), name);
    await c.bind('events', name, { key });
  }
  assert.equal((await c.publish(null, 'body', { exchange: 'events', key: 'order.made' })).queues, 2);
  assert.equal(await c.publishMany(null, [{ body: 'x', exchange: 'events', key: 'stock' }, { body: 'y', exchange: 'events', key: 'order.x' }]), 2);
  const m = await (await c.subscribe('orders')).receive(10000);
  assert.deepEqual([m.properties.exchange, m.properties.routingKey], ['events', 'order.made']);
  await c.unbind('events', 'audit', { key: '#' });
  await assert.rejects(c.publish(null, 'x', { exchange: 'events', key: 'stock' }), refused('unroutable'));
  assert.equal((await c.publish(null, 'x', { exchange: 'events', key: 'stock', optional: true })).queues, 0);
  await c.declareExchange('by-headers', { type: 'headers' });
  await c.bind('by-headers', 'audit', { headers: { colour: 'blue', count: 7 }, match: 'any' });
  await c.bind('events', 'by-headers', { key: '#', toExchange: true });
  assert.deepEqual((await c.exchange('by-headers')).to, [{ queue: 'audit', key: '', match: 'any', headers: { colour: 'blue', count: 7 } }]);
  assert.ok((await c.exchanges()).some((one) => one.name === 'events'));
  await c.deleteExchange('events');
  await assert.rejects(c.exchange('events'), refused('unknown-exchange'));
  const name = await c.declareQueue(null, { session: true });
  assert.match(name, /^temporary\./);
  assert.equal((await c.queue(name)).temporary, true);
  await assert.rejects(c.publish(null, 'x'), refused('bad-argument'));
  await c.close();
});

test('a transaction takes effect as a whole or not at all', async () => {
  const c = await fastq.connect({ path: socket });
  await c.declareQueue('tx-in');
  await c.declareQueue('tx-out', { maxLength: 1 });
  await c.publishMany('tx-in', ['a', 'b', 'c']);
  const s = await c.subscribe('tx-in'), [a, b, d] = [await s.receive(10000), await s.receive(10000), await s.receive(10000)];
  const id = await c.transaction(async (t) => {
    await t.accept(a);
    await t.reject(b, 'not mine');
    return t.publish('tx-out', 'result', { type: 't' });
  });
  assert.throws(() => a.body, refused('already-settled'));
  const m = await (await c.subscribe('tx-out', { credit: 1 })).receive(10000);
  assert.deepEqual([m.id, String(m.body)], [id, 'result']);
  await c.publish('tx-out', 'fills');
  await assert.rejects(c.transaction(async (t) => {
    await t.release(d, { delay: 1000 });
    await t.publish('tx-out', 'does not fit');
  }), refused('limit-reached'));
  await assert.rejects(c.transaction(async (t) => {
    await t.accept(d);
    throw new Error('mine');
  }), /mine/);
  assert.equal(String(d.body), 'c');
  await d.accept();
  assert.deepEqual([(await c.queue('tx-in')).messages, (await c.queue('tx-out')).messages], [0, 2]);
  await c.close();
});

test('a request gets its reply, in parts too, and is told why there is none', async () => {
  const c = await fastq.connect({ path: socket }), other = await fastq.connect({ path: socket });
  await assert.rejects(c.request('nowhere', 'x'), refused('unknown-queue'));
  await c.declareQueue('rpc');
  await assert.rejects(c.request('rpc', 'x'), refused('no-responder'));
  const s = await other.subscribe('rpc');
  await assert.rejects(c.request('rpc', 'late', { timeout: 30 }), refused('timed-out'));
  const responder = (async () => {
    for await (const m of s) {
      const word = String(m.body);
      if (word === 'stop') return m.accept();
      if (word === 'fail') await m.replyError('no-stock', 'none left');
      else if (word === 'reject') await m.reject('not mine');
      else if (word === 'address') { await other.publish(m.replyTo, 'by address'); await m.accept(); }
      else if (word === 'endless') { while (await m.replyPart('more')); assert.equal(await m.endReply(), false); }
      else if (word === 'count') { for (let i = 0; i < 20; i++) await m.replyPart(`${i}`); await m.endReply(); }
      else if (word !== 'late') assert.equal(await m.reply(word.toUpperCase(), { headers: { by: 'me' }, type: 'answer' }), true);
    }
  })();
  const replies = await Promise.all(['one', 'two', 'three'].map((word) => c.request('rpc', word, { headers: { a: 1 } })));
  assert.deepEqual(replies.map((reply) => String(reply.body)), ['ONE', 'TWO', 'THREE']);
  assert.deepEqual([replies[0].headers, replies[0].type], [{ by: 'me' }, 'answer']);
  await assert.rejects(c.request('rpc', 'fail'), (error) => error.code === 'no-stock' && error.message.includes('none left'));
  await assert.rejects(c.request('rpc', 'reject'), refused('rejected'));
  assert.equal(String((await c.request('rpc', 'address')).body), 'by address');
  const parts = [];
  for await (const part of c.requestStream('rpc', 'count')) parts.push(Number(part.body));
  assert.deepEqual(parts, Array.from({ length: 20 }, (_, i) => i));
  for await (const part of c.requestStream('rpc', 'endless')) { assert.equal(String(part.body), 'more'); break; }
  let isOver = false;
  responder.then(() => { isOver = true; });
  await c.publish('rpc', 'stop');
  while (!isOver) { // What comes is met by the next call; the loop must turn, too.
    await c.queue('rpc');
    await new Promise(setImmediate);
  }
  await other.close();
  await c.close();
});

test('schedule keys, schedules, limits, the ledger', async () => {
  const c = await fastq.connect({ path: socket });
  await c.declareLimit('printers', { maxInFlight: 2 });
  await c.declareQueue('time', { processedWindow: '1h', limit: 'printers', rate: '600000/m' });
  assert.deepEqual((await c.queue('time')).flow, { rate: '600000/m', limit: 'printers' });
  assert.equal((await c.changeLimit('printers', { maxInFlight: 5 })).flow.maxInFlight, 5);
  assert.equal((await c.limits()).length, 1);
  await c.publish('time', 'first', { delay: 3600000, scheduleKey: 'k' });
  await c.publish('time', 'second', { delay: 3600000, scheduleKey: 'k' });
  assert.equal((await c.publish('time', 'third', { delay: 3600000, scheduleKey: 'k', scheduleMode: 'keep' })).duplicate, true);
  assert.equal(await c.reschedule('time', 'k', { at: new Date('2100-01-01') }), 'in-time');
  assert.equal(await c.reschedule('time', 'k', { delay: 0 }), 'in-time');
  const s = await c.subscribe('time'), m = await s.receive(10000);
  assert.equal(String(m.body), 'second');
  assert.equal(await c.findProcessed('time', 'invoice'), null);
  assert.deepEqual(await m.acceptProcessed('invoice', 'paid'), { first: true, result: Buffer.from('paid'), late: false });
  assert.equal(String(await c.findProcessed('time', 'invoice')), 'paid');
  assert.equal(await c.cancelScheduled('time', 'k'), 'gone');
  const schedule = await c.setSchedule('heart', 'time', 'beat', { every: 100, missed: 'none', type: 'beat' });
  assert.equal(schedule.everySeconds, 0.1);
  assert.equal((await s.receive(10000)).properties.type, 'beat');
  assert.equal((await c.pauseSchedule('heart')).paused, true);
  await c.setSchedule('nightly', 'time', 'x', { cron: '0 3 * * *', zone: 'Europe/Berlin', until: new Date('2100-01-01'), count: 7 });
  assert.deepEqual((await c.schedules()).map((one) => one.name), ['heart', 'nightly']);
  for (const name of ['heart', 'nightly']) await c.deleteSchedule(name);
  await assert.rejects(c.deleteLimit('printers'), refused('denied'));
  await c.deleteQueue('time');
  await c.deleteLimit('printers');
  await c.close();
});

test('single messages are browsed, deleted, moved, changed and driven back', async () => {
  const c = await fastq.connect({ path: socket });
  await c.declareQueue('single', { priority: true, lz4: 1000 });
  await c.declareQueue('elsewhere');
  const long = 'order, customer; '.repeat(1000);
  for (const id of ['a', 'b', 'c']) await c.publish('single', id, { id });
  await c.publish('single', long, { id: 'd', delay: 3600000, headers: { n: 1 } });
  const seen = await c.browse('single');
  assert.deepEqual(seen.map((one) => one.properties.id), ['a', 'b', 'c', 'd']);
  assert.deepEqual([seen[0].state, String(seen[0].body), seen[3].state, seen[3].headers], ['ready', 'a', 'delayed', { n: 1 }]);
  assert.ok(seen[3].bodyBytes < 1000 && seen[3].due > new Date());
  await c.deleteMessage('single', 'a');
  await c.moveMessage('single', 'b', 'elsewhere');
  await c.changeMessage('single', 'd', { due: 0, priority: 9 });
  await assert.rejects(c.deleteMessage('single', 'zzz'), refused('bad-argument'));
  const s = await c.subscribe('single'), d = await s.receive(10000);
  assert.deepEqual([d.id, String(d.body)], ['d', long]);
  await d.reject();
  assert.equal(await c.redrive('single.dead'), 1);
  const standing = await c.subscribe('single');
  const consumers = await c.consumers('single'), consumer = consumers.at(-1);
  await c.pauseConsumer('single', consumer.subscription);
  assert.deepEqual(await c.consumers('single'), [...consumers.slice(0, -1), { ...consumer, paused: true }]);
  await c.pauseConsumer('single', consumer.subscription, false);
  await standing.close();
  await c.pauseQueue('single');
  assert.deepEqual((await c.queue('single')).paused, ['in', 'out']);
  assert.equal((await c.changeQueue('single', { maxLength: 7 })).maxLength, 7);
  assert.ok((await c.stats()).sessions !== undefined);
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
