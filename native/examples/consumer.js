'use strict';
// A consumer in Node: it prints three messages. Needs: npm install ./native/bindings/node
const fastq = require('fastq');

async function main() {
  const c = await fastq.connect(), s = await c.subscribe('work', { credit: 10 });
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
