'use strict';
// A producer and a consumer in Node. Needs: npm install ./native/bindings/node
const fastq = require('fastq');

async function main() {
  const c = await fastq.connect();
  await c.declareQueue('work', { maxDeliveries: 5 });
  await c.publishMany('work', [0, 1, 2].map((i) => `hello ${i}`)); // Back when all three are on the disk.
  const s = await c.subscribe('work', { credit: 10 });
  let seen = 0;
  for await (const m of s) {
    console.log(String(m.body));
    await m.accept({ confirm: 'none' });
    if (++seen === 3) await s.close();
  }
  await c.flush('durable'); // The settlements, too.
  await c.close();
}

main();
