"""Consuming: subscriptions and the messages that they hand out."""
import ctypes
import itertools
import struct
import time
from ctypes import byref, c_size_t, c_uint64

from . import _properties
from ._library import Error, Message as Struct, Processed, error, level_of, library, milliseconds

ACCEPT, RELEASE, REJECT = 0, 1, 2
LAST, FAILED, END = 1, 2, 4
UNCOUNTED, REDELIVERED, ENCODED = 1, 1, 2
MOST_AT_ONCE = 1024
SLICE = 0.05  # So long a thread waits within the library before it lets others of the connection, and Ctrl-C, have their turn.
_FIELDS = struct.Struct("<QQQqQQIHHII")


class _Batch:
    """What one call has received: the bytes of all its messages in a row, and what is the same for all."""

    __slots__ = ("data", "view", "received", "decoded")

    def __init__(self, data, received):
        self.data, self.view, self.received, self.decoded = data, memoryview(data), received, {}


class Message:
    """A message in hand. Its body is a copy of its own: looked at after the message was settled it raises, it never shows other bytes."""

    __slots__ = ("_subscription", "_batch", "_struct", "_at", "_view", "_settled", "_extended", "_parts")

    def __init__(self, subscription, batch, fields, at):
        # Many are made in a moment: all that may wait is worked out when it is asked for.
        self._subscription, self._batch, self._struct, self._at, self._view, self._settled = subscription, batch, fields, at, None, False

    @property
    def _number(self):
        return self._struct[0]

    @property
    def _life(self):
        return self._struct[10]

    @property
    def _properties(self):
        return self._batch.data[self._at:self._at + self._struct[7]]

    @property
    def body(self):
        """The body, as a memoryview that ends with the settling. bytes(m.body) is a copy to keep."""
        if self._settled:
            raise Error("already-settled", "The message was settled; its body is not there any more")
        view = self._view
        if view is None:
            fields = self._struct
            if fields[9] & ENCODED:
                body, problem = self._batch.decoded[self._at]
                if problem is not None:
                    raise problem
                view = memoryview(body)
            else:
                start = self._at + fields[7]
                view = self._batch.view[start:start + fields[6]]
            self._view = view
        return view

    @property
    def tag(self):
        """Its place in its queue, the same for life."""
        return self._struct[1]

    @property
    def id(self):
        """The application's id; where it gave none, the message's place as text."""
        return (_properties.text_of(self._properties, 2) if self._struct[7] else None) or str(self._struct[1])

    @property
    def delivery_count(self):
        return self._struct[8]

    @property
    def redelivered(self):
        return bool(self._struct[9] & REDELIVERED)

    @property
    def token(self):
        """Fencing token: only rises for a message, over restarts too. Pass it on to what the work writes to."""
        return (self._subscription.epoch, self._struct[2])

    @property
    def timestamp(self):
        """When the broker took it."""
        return _properties.moment(self._struct[3])

    @property
    def headers(self):
        return _properties.headers(self._properties)

    @property
    def properties(self):
        return _properties.properties(self._properties)

    @property
    def dead_letter(self):
        """In a dead-letter queue: where and why it died last. Else None."""
        story = _properties.deaths(self._properties)
        return {key: story[0][key] for key in ("source", "reason", "text", "count", "first", "last")} if story else None

    @property
    def deaths(self):
        """The whole story of a dead letter, the latest death first."""
        return _properties.deaths(self._properties)

    @property
    def lease_left(self):
        """Seconds for which it is still held, as this side reckons."""
        received, lease = getattr(self, "_extended", None) or (self._batch.received, self._subscription.lease)
        return max(0.0, received + lease - time.monotonic())

    @property
    def reply_to(self):
        return _properties.text_of(self._properties, 4)

    @property
    def is_request(self):
        """Somebody waits for a reply."""
        return self.reply_to is not None

    def reply(self, body, confirm="written", **keywords):
        """Answers a request, and accepts it: both at once. keywords: headers, type, content_type and others of publish. False: nobody waits for it
        any more; it is accepted all the same. Where the reply_to is a queue's name, the reply is published there, with the request's
        correlation id (or its id), before the request is accepted."""
        return self._last(bytes(body), keywords, LAST, confirm)

    def reply_error(self, code, words="", confirm="written"):
        """Says that the request failed, in a word for programs and a sentence for people, and accepts it."""
        return self._last(words.encode(), {"type": code}, LAST | FAILED, confirm)

    def reply_part(self, body, **keywords):
        """Sends a part of the answer, and waits until it is in the requester's memory; the request stays in hand. False: nobody waits for it any more."""
        part = self._next_part()
        return self.connection._send_reply(self._address(), bytes(body), _properties.write(**keywords), part, 0)

    def end_reply(self, confirm="written"):
        """No more parts come: accepts the request."""
        return self._last(b"", {}, LAST | END, confirm)

    @property
    def connection(self):
        return self._subscription.connection

    def _next_part(self):
        self._parts = getattr(self, "_parts", 0) + 1
        return self._parts - 1

    def _address(self):
        to = self.reply_to
        if to is None or not to.startswith("fastq.reply."):
            raise Error("bad-argument", "This message is no request: it has no address for replies")
        return to

    def _last(self, body, keywords, flags, confirm):
        to = self.reply_to
        if to is not None and not to.startswith("fastq.reply."):
            keywords.setdefault("correlation_id", _properties.text_of(self._properties, 3) or _properties.text_of(self._properties, 2))
            self.connection.publish(to, body, **keywords)
            self.accept(confirm=confirm)
            return True
        self._address()
        level, number, properties, part = level_of(confirm), c_uint64(), _properties.write(**keywords), self._next_part()
        mine = self._properties
        kept = ctypes.create_string_buffer(mine, len(mine))
        if self._settled:
            raise Error("already-settled", "The message was settled before")
        with self.connection._turn() as handle:
            one = Struct(number=self._number, life=self._life, properties=ctypes.addressof(kept), property_bytes=len(mine))
            code = library.fastq_reply_to(handle, self._subscription._handle, byref(one), body, len(body), properties, len(properties), part, flags, level, byref(number))
            if code:
                raise error(code)
            self._forget()
            return self.connection._await(handle, number.value, level) if level else True

    def accept_processed(self, key, result=b""):
        """Accepts it and marks a key of its queue as processed, in one step: dict(first=, result=, late=). A second mark of a key changes nothing, and
        tells the result of the first. late: it was not in hand any more, and is marked all the same."""
        done = Processed()
        with self.connection._turn() as handle:
            one = Struct(number=self._number, life=self._life)
            code = library.fastq_accept_processed(handle, self._subscription._handle, byref(one), key.encode(), result, len(result), byref(done))
            if code:
                raise error(code)
            told = {"first": bool(done.is_first), "result": ctypes.string_at(done.result, done.result_bytes) if done.result else b"", "late": bool(done.was_late)}
            self._forget()
        return told

    def accept(self, confirm="accepted"):
        """Done: gone for good. confirm "none": gathered with others; a refusal is raised by the next flush."""
        self._settle(ACCEPT, confirm)

    def release(self, delay=0.0, count=True, confirm="accepted"):
        """Again, to anybody, after a delay; count=False: as if it had not been delivered."""
        self._settle(RELEASE, confirm, milliseconds(delay), 0 if count else UNCOUNTED)

    def reject(self, reason=None, details=None, confirm="accepted"):
        """Never again: it goes to the dead letters with these words."""
        level, number = level_of(confirm), c_uint64()
        reason, details = (text.encode() if text else None for text in (reason, details))
        self._end(lambda c, s, one: library.fastq_reject(c, s, one, reason, details, level, byref(number)), number, level)

    def extend(self, lease, confirm="accepted"):
        """The lease begins anew with this length."""
        level, number = level_of(confirm), c_uint64()
        self._do(lambda c, s, one: library.fastq_extend(c, s, one, milliseconds(lease), level, byref(number)), number, level)
        self._extended = time.monotonic(), lease

    def _settle(self, outcome, confirm, delay=0, flags=0):
        level = level_of(confirm)
        number = c_uint64() if level else None
        self._end(lambda c, s, one: library.fastq_settle(c, s, one, outcome, level, delay, flags, byref(number) if level else None), number, level)

    def _end(self, call, number, level):
        if self._settled:
            raise Error("already-settled", "The message was settled before")
        self._do(call, number, level, self._forget)

    def _do(self, call, number, level, then=lambda: None):
        connection = self._subscription.connection
        with connection._turn() as handle:
            one = Struct(number=self._struct[0], life=self._struct[10])
            code = call(handle, self._subscription._handle, byref(one))
            if code:
                raise error(code)
            then()
            if level:
                connection._await(handle, number.value, level)

    def _forget(self):
        self._settled = True
        if self._view is not None:
            self._forget_view(self._view)

    def _forget_view(self, view):
        self._view = None
        try:
            view.release()
        except BufferError:
            pass  # Somebody holds a view of it: it is a copy of its own, and stays what it is.

    def __repr__(self):
        return f"<fastq.Message {self.id} of {self._subscription.queue}{', settled' if self._settled else ''}>"


class Subscription:
    """A consumer's claim on a queue: a context manager, an iterator, an asynchronous iterator."""

    def __init__(self, connection, queue, handle, is_automatic, lease, epoch):
        self.connection, self.queue, self.is_automatic, self.lease, self.epoch = connection, queue, is_automatic, lease, epoch
        self._handle, self._room, self._bytes, self._closed = handle, (Struct * 1)(), ctypes.create_string_buffer(4096), False

    def receive(self, timeout=None):
        """The next message; None when none came within the time. Without a time it waits for ever."""
        messages = self._receive(1, timeout)
        return messages[0] if messages else None

    def receive_many(self, most, timeout=None):
        """Up to so many messages, as soon as one is there; [] when none came within the time."""
        return self._receive(most, timeout)

    def _receive(self, most, timeout):
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = SLICE if deadline is None else min(SLICE, max(0.0, deadline - time.monotonic()))
            messages = self._take(most, left)
            if messages or (deadline is not None and time.monotonic() >= deadline):
                return messages

    def _take(self, most, wait):
        with self.connection._turn() as handle:
            most = min(most, MOST_AT_ONCE)
            if most > len(self._room):
                self._room = (Struct * most)()
            count = c_size_t()
            code = library.fastq_receive(handle, self._handle, self._room, most, int(wait * 1e9), byref(count))
            if code:
                raise error(code)
            return self._copied(count.value)

    def _copied(self, count):
        """All bytes are copied before anything else is done with the connection: what lies in the broker's files may go with any call."""
        if count == 0:
            return []
        received, length = time.monotonic(), c_size_t()
        while library.fastq_copy_messages(self._room, count, self._bytes, len(self._bytes), byref(length)):
            self._bytes = ctypes.create_string_buffer(2 * length.value)
        batch = _Batch(ctypes.string_at(self._bytes, length.value), received)
        all_fields = list(_FIELDS.iter_unpack(memoryview(self._room).cast("B")[:count * _FIELDS.size]))
        places = itertools.accumulate([fields[6] + fields[7] for fields in all_fields], initial=0)
        messages = list(map(Message, itertools.repeat(self), itertools.repeat(batch), all_fields, places))
        for index, message in enumerate(messages):
            if message._struct[9] & ENCODED:
                batch.decoded[message._at] = self._decoded(index)
        return messages

    def _decoded(self, index):
        """(bytes, None), or (None, why it cannot be decoded)."""
        size, one = c_size_t(), byref(self._room[index])
        code = library.fastq_body_size(one, byref(size))
        if not code:
            data = (ctypes.c_ubyte * size.value)()
            code = library.fastq_copy_body(one, data, size)
            if not code:
                return bytes(data), None
        return None, error(code)

    def accept_many(self, messages, confirm="accepted"):
        """Accepts messages of this subscription, neighbours in one record."""
        level, last, number = level_of(confirm), 0, c_uint64()
        with self.connection._turn() as handle:
            for first, count, life in _ranges(messages):
                code = library.fastq_settle_range(handle, self._handle, first, count, life, ACCEPT, level, byref(number))
                if code:
                    raise error(code)
                last = number.value
            for message in messages:
                message._settled, view = True, message._view
                if view is not None:
                    message._forget_view(view)
            if level and last:
                self.connection._await(handle, last, level)

    def set_credit(self, messages):
        """Changes how many may be in hand at once; 0: no more come."""
        with self.connection._turn() as handle:
            code = library.fastq_set_credit(handle, self._handle, messages)
            if code:
                raise error(code)

    def close(self):
        """Gives back what it holds, as if it had not been delivered."""
        if self._closed or self.connection.closed:
            return
        with self.connection._turn() as handle:
            code = library.fastq_unsubscribe(handle, self._handle)
            if code:
                raise error(code)
            self._closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __iter__(self):
        while not self._closed:
            message = self.receive()
            if message is not None:
                yield message

    async def __aiter__(self):
        while not self._closed:
            messages = self._take(1, 0)
            if messages:
                yield messages[0]
            else:
                await self.connection._wait_for_news()


def _ranges(messages):
    """(first, count, life) of neighbours."""
    numbers, lives = [message._struct[0] for message in messages], {message._struct[10] for message in messages}
    if numbers and len(lives) == 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        yield numbers[0], len(numbers), lives.pop()  # All that one call has received, mostly.
        return
    first = count = life = None
    for message in messages:
        number, of = message._struct[0], message._struct[10]
        if first is not None and number == first + count and of == life:
            count += 1
            continue
        if first is not None:
            yield first, count, life
        first, count, life = number, 1, of
    if first is not None:
        yield first, count, life
