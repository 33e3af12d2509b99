"""Consuming: subscriptions and the messages that they hand out."""
import ctypes
import struct
import time
from ctypes import byref, c_size_t, c_uint64

from . import _properties
from ._library import Error, Message as Struct, error, level_of, library, milliseconds

ACCEPT, RELEASE, REJECT = 0, 1, 2
UNCOUNTED, REDELIVERED, ENCODED = 1, 1, 2
MOST_AT_ONCE = 1024
SLICE = 0.05  # So long a thread waits within the library before it lets others of the connection, and Ctrl-C, have their turn.
_FIELDS = struct.Struct("<QQQqQQIHHII")


class Message:
    """A message in hand. Its body is a copy of its own: looked at after the message was settled it raises, it never shows other bytes."""

    __slots__ = ("_subscription", "_struct", "_data", "_view", "_problem", "_properties", "_settled", "_received", "_lease")

    def __init__(self, subscription, fields, data, problem, properties, received):
        self._subscription, self._struct, self._data, self._problem, self._properties = subscription, fields, data, problem, properties
        self._view, self._settled, self._received, self._lease = None, subscription.is_automatic, received, subscription.lease

    @property
    def body(self):
        """The body, as a memoryview that ends with the settling. bytes(m.body) is a copy to keep."""
        if self._settled and not self._subscription.is_automatic:
            raise Error("already-settled", "The message was settled; its body is not there any more")
        if self._problem is not None:
            raise self._problem
        if self._view is None:
            self._view = memoryview(self._data)
        return self._view

    @property
    def tag(self):
        """Its place in its queue, the same for life."""
        return self._struct[1]

    @property
    def id(self):
        """The application's id; where it gave none, the message's place as text."""
        for tag, _, _, value in _properties.read(self._properties):
            if tag == 2:
                return value.decode("utf-8", "replace")
        return str(self._struct[1])

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
        return max(0.0, self._received + self._lease - time.monotonic())

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
        self._received, self._lease = time.monotonic(), lease

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
        self._settled, self._data = True, None
        if self._view is not None:
            try:
                self._view.release()
            except BufferError:
                pass  # Somebody holds a view of it: it is a copy of its own, and stays what it is.
            self._view = None

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
        received, length = time.monotonic(), c_size_t()
        while library.fastq_copy_messages(self._room, count, self._bytes, len(self._bytes), byref(length)):
            self._bytes = ctypes.create_string_buffer(2 * length.value)
        data, at, messages = ctypes.string_at(self._bytes, length.value), 0, []
        for index, fields in enumerate(_FIELDS.iter_unpack(memoryview(self._room).cast("B")[:count * _FIELDS.size])):
            body_at = at + fields[7]
            end = body_at + fields[6]
            body, problem = (data[body_at:end], None) if not fields[9] & ENCODED else self._decoded(index)
            messages.append(Message(self, fields, body, problem, data[at:body_at], received))
            at = end
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
        level, last = level_of(confirm), 0
        with self.connection._turn() as handle:
            for first, count, life in _ranges(messages):
                number = c_uint64()
                code = library.fastq_settle_range(handle, self._handle, first, count, life, ACCEPT, level, byref(number))
                if code:
                    raise error(code)
                last = number.value
            for message in messages:
                if message._view is not None:
                    message._forget()
                message._settled, message._data = True, None
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

