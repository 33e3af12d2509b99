'use strict';
// A request and its reply in Node; the responder is a connection of its own, as it would be in another program.
const fastq = require('fastq');

async function respond() {
  const c = await fastq.connect(), s = await c.subscribe('greetings'), m = await s.receive();
  await m.reply(`hello, ${m.body}`); // The request is accepted in the same step.
  await c.close();
}

async function main() {
  const c = await fastq.connect();
  await c.declareQueue('greetings');
  const responder = respond();
  console.log(String((await c.request('greetings', 'world', { timeout: 5000, waitForResponder: true })).body));
  await responder;
  await c.close();
}

main();
