"""Request and reply: the requester's side, and how replies are sent."""
import asyncio
import contextlib
import ctypes
import time
from ctypes import byref, c_uint64

from . import _properties
from ._library import NO_REQUESTER, TIMED_OUT, Error, Reply as Struct, error, library, milliseconds, nanoseconds
from ._subscription import SLICE

LAST, FAILED, END = 1, 2, 4
WAITS_FOR_RESPONDER = 1
ADDRESS = "fastq.reply."


class Reply:
    """A reply to a request, or a part of one: a copy of its own."""

    __slots__ = ("body", "_data")

    def __init__(self, body, data):
        self.body, self._data = body, data

    @property
    def id(self):
        return _properties.text_of(self._data, 2)

    @property
    def type(self):
        return _properties.text_of(self._data, 7)

    @property
    def correlation_id(self):
        return _properties.text_of(self._data, 3)

    @property
    def headers(self):
        return _properties.headers(self._data)

    @property
    def properties(self):
        return _properties.properties(self._data)

    def __repr__(self):
        return f"<fastq.Reply of {len(self.body)} bytes>"


class Requests:
    """The part of a connection that asks."""

    def request(self, queue, body, timeout=30.0, wait_for_responder=False, **keywords):
        """Sends a request to a queue, and gives the reply. Raises Error: "timed-out"; "no-responder" (the queue has no consumer, or the one that
        had the request ended without a reply; wait_for_responder: it waits for one); "unknown-queue"; where the responder says that it
        failed, the code that it gave. keywords: those of publish, without reply_to and ttl. The request is delivered once."""
        with contextlib.closing(self.request_stream(queue, body, timeout, wait_for_responder, **keywords)) as parts:
            return next(parts)

    def request_stream(self, queue, body, timeout=30.0, wait_for_responder=False, **keywords):
        """The same for an answer in parts, an iterator of them; timeout is that of each part. Leaving the loop tells the responder that no more are wanted."""
        with self._asking(queue, body, timeout, wait_for_responder, keywords) as request:
            while not request.is_over:
                deadline, reply = time.monotonic() + timeout, None
                while reply is None and not request.is_over:
                    left = deadline - time.monotonic()
                    reply = request.take(min(SLICE, left))
                    if reply is None and left <= 0 and not request.is_over:
                        raise Error("timed-out", f"No reply from queue {queue} within {timeout} s")
                if reply is not None:
                    yield reply

    async def request_async(self, queue, body, timeout=30.0, wait_for_responder=False, **keywords):
        """As request, for asyncio."""
        with self._asking(queue, body, timeout, wait_for_responder, keywords) as request:
            async def first():
                while (reply := request.take(0)) is None:
                    await self._wait_for_news()
                return reply
            try:
                return await asyncio.wait_for(first(), timeout)
            except (asyncio.TimeoutError, TimeoutError):
                raise Error("timed-out", f"No reply from queue {queue} within {timeout} s") from None

    @contextlib.contextmanager
    def _asking(self, queue, body, timeout, wait_for_responder, keywords):
        if "ttl" in keywords or "reply_to" in keywords:
            raise TypeError("A request has its own ttl and reply_to")
        properties, body, flags = _properties.write(**keywords), bytes(body), WAITS_FOR_RESPONDER if wait_for_responder else 0
        request = _Request(self, queue, body, properties, max(1, milliseconds(timeout)), flags)
        try:
            yield request
        finally:
            request.end()

    def _send_reply(self, address, body, properties, part, flags):
        """False: nobody waits for it any more."""
        number = c_uint64()
        with self._turn() as handle:
            code = library.fastq_send_reply(handle, address.encode(), body, len(body), properties, len(properties), part, flags, byref(number))
            if code:
                raise error(code)
            return self._await(handle, number.value, 0)


class _Request:
    def __init__(self, connection, queue, body, properties, timeout, flags):
        self._connection, self._number, self.is_over, self._sent = connection, c_uint64(), False, (queue, body, properties, timeout, flags)
        self._send()

    def _send(self):
        queue, body, properties, timeout, flags = self._sent
        with self._connection._turn() as handle:
            to = self._connection._queue(handle, queue)
            code = library.fastq_request(handle, to, body, len(body), properties, len(properties), timeout, flags, byref(self._number))
            if code:
                raise error(code)

    def take(self, wait):
        """The next reply, within so many seconds; None: none came, or it was the end."""
        reply = Struct()
        with self._connection._turn() as handle:
            code = library.fastq_receive_reply(handle, self._number, nanoseconds(wait), byref(reply))
            if code == TIMED_OUT:
                return None
            if code:
                self.is_over = True
                return self._refused(error(code))
            body, properties = ctypes.string_at(reply.body, reply.body_bytes), ctypes.string_at(reply.properties, reply.property_bytes)
        self.is_over = bool(reply.flags & LAST)
        if reply.flags & FAILED:
            raise Error(_properties.text_of(properties, 7) or "failed", body.decode("utf-8", "replace"))
        return None if reply.flags & END else Reply(body, properties)

    def _refused(self, problem):
        """One that a queue of an earlier life has refused goes to the queue that has its name now."""
        if problem.code not in ("queue-deleted", "unknown-queue") or self._connection._queues.pop(self._sent[0], None) is None:
            raise problem
        self._send()
        self.is_over = False
        return None

    def end(self):
        if not self.is_over and not self._connection.closed:
            with self._connection._turn() as handle:
                library.fastq_end_request(handle, self._number)
