export type Confirm = 'none' | 'accepted' | 'written' | 'durable';
export type HeaderValue = string | boolean | number | bigint | Date | Uint8Array | HeaderValue[] | { [key: string]: HeaderValue };

/** What goes with a message. Times in milliseconds. */
export interface PublishOptions {
  id?: string; headers?: Record<string, HeaderValue>; group?: string; dedupId?: string; unique?: string; priority?: number; ttl?: number; delay?: number;
  type?: string; correlationId?: string; replyTo?: string; tenant?: string; contentType?: string; contentEncoding?: string; key?: string; schemaVersion?: string;
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
  publish(queue: string, body: string | Uint8Array, options?: PublishOptions & { confirm?: Confirm }): Promise<{ id: string; duplicate: boolean }>;
  publishMany(queue: string, messages: Iterable<string | Uint8Array | (PublishOptions & { body: string | Uint8Array })> | AsyncIterable<string | Uint8Array | (PublishOptions & { body: string | Uint8Array })>, options?: { confirm?: Confirm }): Promise<number>;
  flush(confirm?: Confirm): Promise<void>;
  subscribe(queue: string, options?: { credit?: number; lease?: number; mode?: 'manual' | 'auto'; priority?: number; exclusive?: boolean }): Promise<Subscription>;
  declareQueue(name: string, attributes?: Record<string, string | number | boolean>): Promise<void>;
  deleteQueue(name: string): Promise<void>;
  purge(name: string): Promise<number>;
  queue(name: string): Promise<Record<string, unknown>>;
  queues(): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}

export function connect(options?: { path?: string | null; clientName?: string; patience?: number }): Promise<Connection>;
