'use strict';
// Properties and headers of messages, to and from the bytes of the protocol (src/FastQ.Protocol/README.md, section 7).

const TEXTS = { id: 2, correlationId: 3, replyTo: 4, contentType: 5, contentEncoding: 6, type: 7, key: 8, schemaVersion: 9, group: 36, tenant: 37, dedupId: 38, unique: 39, exchange: 41, routingKey: 42, scheduleKey: 48 };
const NUMBERS = { delay: 32, ttl: 34, priority: 35, longestWait: 50 }; // Times in milliseconds.
const WORDS = { uniqueUntil: [40, ['settled', 'started']], scheduleMode: [49, ['replace', 'debounce', 'keep']] };
const DELIVER_AT = 33;
const NAMES = Object.fromEntries([...Object.entries(TEXTS), ...Object.entries(NUMBERS)].map(([name, tag]) => [tag, name]));
const HEADER = 1, DEATH = 64;
const TEXT = 0, BOOLEAN = 1, INT64 = 2, DOUBLE = 3, BYTES = 4, TIMESTAMP = 5, LIST = 6, TABLE = 7;
const REASONS = { 1: 'max-deliveries', 2: 'rejected', 3: 'expired', 4: 'overflow', 5: 'unroutable' };
const DEEPEST = 16;

function int64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(value));
  return bytes;
}

function double(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
}

/** [type, bytes] of a header's value: integers that are whole are 64-bit ones, all other numbers doubles. */
function encode(value, depth = 1) {
  if (depth > DEEPEST) throw new RangeError(`Lists and tables lie more than ${DEEPEST} deep within one another`);
  if (typeof value === 'string') return [TEXT, Buffer.from(value)];
  if (typeof value === 'boolean') return [BOOLEAN, Buffer.from([value ? 1 : 0])];
  if (typeof value === 'bigint' || Number.isSafeInteger(value)) return [INT64, int64(value)];
  if (typeof value === 'number') return [DOUBLE, double(value)];
  if (value instanceof Date) return [TIMESTAMP, int64(BigInt(value.getTime()) * 1000n)];
  if (value instanceof Uint8Array) return [BYTES, Buffer.from(value)];
  if (Array.isArray(value)) return [LIST, Buffer.concat(value.map((one) => typed(...encode(one, depth + 1))))];
  if (value !== null && typeof value === 'object') return [TABLE, Buffer.concat(Object.entries(value).flatMap(([key, one]) => [keyOf(key), typed(...encode(one, depth + 1))]))];
  throw new TypeError('A header is text, a boolean, a number, bytes, a Date, an array or an object');
}

function keyOf(key) {
  const bytes = Buffer.from(key);
  if (bytes.length < 1 || bytes.length > 255) throw new RangeError("A header's key has 1 to 255 bytes of UTF-8");
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

function head(bytes, ...start) {
  if (bytes.length > 0xffff) throw new RangeError('A property has more than 65,535 bytes');
  return Buffer.concat([Buffer.from([...start, bytes.length & 0xff, bytes.length >> 8]), bytes]);
}

const typed = (type, bytes) => head(bytes, type);

/** The properties of a message that is to be published. */
function write(options) {
  const parts = [];
  for (const [name, tag] of Object.entries(TEXTS)) if (options[name] != null) parts.push(head(Buffer.from(String(options[name])), tag, TEXT));
  for (const [name, tag] of Object.entries(NUMBERS)) if (options[name] != null) parts.push(head(int64(Math.ceil(options[name])), tag, INT64));
  for (const [name, [tag, words]] of Object.entries(WORDS)) {
    if (options[name] == null) continue;
    if (!words.includes(options[name])) throw new RangeError(`${name} is one of ${words.join(', ')}, not ${options[name]}`);
    parts.push(head(int64(words.indexOf(options[name])), tag, INT64));
  }
  if (options.deliverAt != null) parts.push(head(int64(BigInt(options.deliverAt.getTime()) * 1000n), DELIVER_AT, TIMESTAMP));
  for (const [key, value] of Object.entries(options.headers ?? {})) {
    const [type, bytes] = encode(value);
    parts.push(head(Buffer.concat([keyOf(key), bytes]), HEADER, type));
  }
  return Buffer.concat(parts);
}

/** Each property, to the end or to where they are cut short. */
function* read(bytes) {
  for (let at = 0; bytes.length - at >= 4;) {
    const tag = bytes[at], type = bytes[at + 1], end = at + 4 + bytes.readUInt16LE(at + 2);
    if (end > bytes.length) return;
    let value = bytes.subarray(at + 4, end), key;
    if (tag === HEADER) {
      if (value.length === 0 || value[0] === 0 || value.length - 1 < value[0]) return;
      key = value.toString('utf8', 1, 1 + value[0]);
      value = value.subarray(1 + value[0]);
    }
    at = end;
    yield { tag, type, key, value };
  }
}

/** A value in JavaScript's terms; one whose bytes have not the form of its type is a Buffer. */
function decode(type, bytes, depth = 1) {
  if (type === TEXT) return bytes.toString();
  if (type === BOOLEAN && bytes.length === 1 && bytes[0] < 2) return bytes[0] === 1;
  if (type === DOUBLE && bytes.length === 8) return bytes.readDoubleLE();
  if (type === TIMESTAMP && bytes.length === 8) return new Date(Number(bytes.readBigInt64LE() / 1000n));
  if (type === INT64 && bytes.length === 8) {
    const number = bytes.readBigInt64LE();
    return Number.isSafeInteger(Number(number)) ? Number(number) : number;
  }
  return ((type === LIST || type === TABLE) && depth <= DEEPEST ? members(type, bytes, depth) : undefined) ?? bytes;
}

function members(type, bytes, depth) {
  const list = [], table = Object.create(null);
  for (let at = 0; at < bytes.length;) {
    let key;
    if (type === TABLE) {
      if (bytes[at] === 0 || at + 1 + bytes[at] > bytes.length) return undefined;
      key = bytes.toString('utf8', at + 1, at + 1 + bytes[at]);
      at += 1 + bytes[at];
    }
    if (bytes.length - at < 3) return undefined;
    const end = at + 3 + bytes.readUInt16LE(at + 1);
    if (end > bytes.length) return undefined;
    const value = decode(bytes[at], bytes.subarray(at + 3, end), depth + 1);
    if (type === LIST) list.push(value);
    else table[key] = value;
    at = end;
  }
  return type === LIST ? list : { ...table };
}

function headers(bytes) {
  return Object.fromEntries([...read(bytes)].filter((one) => one.tag === HEADER).map((one) => [one.key, decode(one.type, one.value)]));
}

function properties(bytes) {
  return Object.fromEntries([...read(bytes)].filter((one) => one.tag in NAMES).map((one) => [NAMES[one.tag], decode(one.type, one.value)]));
}

/** Where and why a dead letter died last; null: it is none. */
function deadLetter(bytes) {
  for (const { tag, type, value } of read(bytes)) {
    if (tag !== DEATH || type !== BYTES) continue;
    const fields = {};
    for (let at = 0; value.length - at >= 4;) {
      const end = at + 4 + value.readUInt16LE(at + 2);
      if (end > value.length) break;
      fields[value.readUInt16LE(at)] ??= value.subarray(at + 4, end);
      at = end;
    }
    const number = (field) => (fields[field]?.length === 8 ? Number(fields[field].readBigUInt64LE()) : 0);
    return { source: String(fields[1] ?? ''), reason: REASONS[number(46)] ?? 'unknown', text: fields[22] ? String(fields[22]) : null, count: number(48), first: new Date(number(49) / 1000), last: new Date(number(50) / 1000) };
  }
  return null;
}

module.exports = { write, headers, properties, deadLetter };
