'use strict';
// A producer in Node. Needs: npm install ./native/bindings/node
const fastq = require('fastq');

async function main() {
  const c = await fastq.connect();
  await c.declareQueue('work', { maxDeliveries: 5 });
  await c.publishMany('work', [0, 1, 2].map((i) => `hello ${i}`)); // Back when all three are on the disk.
  await c.close();
}

main();
