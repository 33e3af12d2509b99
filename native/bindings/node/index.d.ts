export type Confirm = 'none' | 'accepted' | 'written' | 'durable';
export type HeaderValue = string | boolean | number | bigint | Date | Uint8Array | HeaderValue[] | { [key: string]: HeaderValue };

/** What goes with a message. Times in milliseconds. */
export interface PublishOptions {
  id?: string; headers?: Record<string, HeaderValue>; group?: string; dedupId?: string; unique?: string; priority?: number; ttl?: number; delay?: number;
  type?: string; correlationId?: string; replyTo?: string; tenant?: string; contentType?: string; contentEncoding?: string; key?: string; schemaVersion?: string;
  deliverAt?: Date; uniqueUntil?: 'settled' | 'started'; scheduleKey?: string; scheduleMode?: 'replace' | 'debounce' | 'keep'; longestWait?: number;
}

/** Where a message goes besides a queue, and what waits for it there. */
export interface SendOptions extends PublishOptions {
  /** With queue null: the exchange; key is then the routing key. */
  exchange?: string;
  /** That it reaches no queue is fine. */
  optional?: boolean;
}

export interface Published { id: string; duplicate: boolean; /** null: not known. */ queues: number | null }

export interface Binding { key?: string; headers?: Record<string, HeaderValue>; match?: 'all' | 'any'; toExchange?: boolean }

export type QueueAttributes = Record<string, string | number | boolean>;
export type Shown = Record<string, unknown>;
export type Timeliness = 'in-time' | 'handed-out' | 'gone';
export type Body = string | Uint8Array;

/** Times in milliseconds. */
export interface ScheduleOptions extends PublishOptions { every?: number; cron?: string; zone?: string; missed?: 'one' | 'all' | 'none'; until?: Date; count?: number }

export interface RequestOptions extends PublishOptions { timeout?: number; waitForResponder?: boolean }

export interface Browsed {
  queue: string; tag: number; state: string; deliveries: number; owner: string | null; leaseLeft: number | null; due: Date | null; timestamp: Date | null;
  body: Buffer; bodyBytes: number; properties: Record<string, HeaderValue>; headers: Record<string, HeaderValue>; deadLetter: DeadLetter | null;
}

export interface DeadLetter { source: string; reason: string; text: string | null; count: number; first: Date; last: Date }

export class FastqError extends Error { readonly code: string; readonly value: number }

export class Message {
  /** A copy; throws once the message is settled. */
  readonly body: Buffer;
  readonly id: string;
  readonly tag: number;
  readonly token: number;
  readonly timestamp: Date;
  readonly deliveryCount: number;
  readonly redelivered: boolean;
  readonly headers: Record<string, HeaderValue>;
  readonly properties: Record<string, HeaderValue>;
  readonly deadLetter: DeadLetter | null;
  accept(options?: { confirm?: Confirm }): Promise<void>;
  release(options?: { delay?: number; count?: boolean; confirm?: Confirm }): Promise<void>;
  reject(reason?: string | null, options?: { details?: string | null; confirm?: Confirm }): Promise<void>;
  extend(lease: number, options?: { confirm?: Confirm }): Promise<void>;
  readonly replyTo: string | null;
  readonly isRequest: boolean;
  /** Resolves to false when nobody waits for it any more; so do the next two. */
  reply(body: Body, options?: PublishOptions & { confirm?: Confirm }): Promise<boolean>;
  replyError(code: string, words?: string, options?: { confirm?: Confirm }): Promise<boolean>;
  replyPart(body: Body, options?: PublishOptions): Promise<boolean>;
  endReply(options?: { confirm?: Confirm }): Promise<boolean>;
  acceptProcessed(key: string, result?: Body): Promise<{ first: boolean; result: Buffer; late: boolean }>;
}

export class Reply {
  readonly body: Buffer;
  readonly id: string | null;
  readonly type: string | null;
  readonly correlationId: string | null;
  readonly headers: Record<string, HeaderValue>;
  readonly properties: Record<string, HeaderValue>;
}

export class Transaction {
  publish(queue: string | null, body: Body, options?: SendOptions): Promise<string>;
  accept(message: Message): Promise<void>;
  release(message: Message, options?: { delay?: number; count?: boolean }): Promise<void>;
  reject(message: Message, reason?: string | null, options?: { details?: string | null }): Promise<void>;
}

export class Subscription implements AsyncIterable<Message> {
  readonly queue: string;
  readonly isAutomatic: boolean;
  receive(timeout?: number): Promise<Message | null>;
  receiveMany(most: number, timeout?: number): Promise<Message[]>;
  acceptMany(messages: Message[], options?: { confirm?: Confirm }): Promise<void>;
  close(): Promise<void>;
  [Symbol.asyncIterator](): AsyncIterator<Message>;
}

export class Connection {
  publish(queue: string | null, body: Body, options?: SendOptions & { confirm?: Confirm }): Promise<Published>;
  publishMany(queue: string | null, messages: Iterable<Body | (SendOptions & { body: Body })> | AsyncIterable<Body | (SendOptions & { body: Body })>, options?: { confirm?: Confirm }): Promise<number>;
  flush(confirm?: Confirm): Promise<void>;
  subscribe(queue: string, options?: { credit?: number; lease?: number; mode?: 'manual' | 'auto'; priority?: number; exclusive?: boolean }): Promise<Subscription>;
  declareQueue(name: string | null, attributes?: QueueAttributes & { session?: boolean }): Promise<string>;
  changeQueue(name: string, attributes: QueueAttributes): Promise<Shown>;
  pauseQueue(name: string, comesIn?: boolean, goesOut?: boolean): Promise<void>;
  consumers(name: string): Promise<Shown[]>;
  pauseConsumer(name: string, subscription: number, isPaused?: boolean): Promise<void>;
  deleteQueue(name: string): Promise<void>;
  purge(name: string): Promise<number>;
  queue(name: string): Promise<Shown>;
  queues(): Promise<Shown[]>;
  stats(): Promise<Shown>;
  declareExchange(name: string, options?: { type?: 'direct' | 'topic' | 'fanout' | 'headers'; alternate?: string }): Promise<void>;
  deleteExchange(name: string): Promise<void>;
  exchange(name: string): Promise<Shown>;
  exchanges(): Promise<Shown[]>;
  bind(exchange: string, queue: string, binding?: Binding): Promise<void>;
  unbind(exchange: string, queue: string, binding?: Binding): Promise<void>;
  transaction<T>(work: (transaction: Transaction) => Promise<T>, options?: { timeout?: number; confirm?: Confirm }): Promise<T>;
  request(queue: string, body: Body, options?: RequestOptions): Promise<Reply>;
  requestStream(queue: string, body: Body, options?: RequestOptions): AsyncGenerator<Reply, void>;
  cancelScheduled(queue: string, key: string): Promise<Timeliness>;
  reschedule(queue: string, key: string, time: { delay: number } | { at: Date }): Promise<Timeliness>;
  setSchedule(name: string, queue: string, body: Body, options: ScheduleOptions): Promise<Shown>;
  deleteSchedule(name: string): Promise<void>;
  pauseSchedule(name: string, isPaused?: boolean): Promise<Shown>;
  schedules(): Promise<Shown[]>;
  declareLimit(name: string, limits?: QueueAttributes): Promise<Shown>;
  changeLimit(name: string, limits: QueueAttributes): Promise<Shown>;
  deleteLimit(name: string): Promise<void>;
  limits(): Promise<Shown[]>;
  findProcessed(queue: string, key: string): Promise<Buffer | null>;
  browse(queue: string, options?: { max?: number; filter?: string | null }): Promise<Browsed[]>;
  deleteMessage(queue: string, id: string | number): Promise<void>;
  changeMessage(queue: string, id: string | number, change: { priority?: number; due?: number | Date }): Promise<void>;
  moveMessage(queue: string, id: string | number, to: string): Promise<void>;
  redrive(queue: string, options?: { to?: string | null; filter?: string | null; rate?: number }): Promise<number>;
  close(): Promise<void>;
}

export function connect(options?: { path?: string | null; clientName?: string; patience?: number }): Promise<Connection>;
