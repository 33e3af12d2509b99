"""Messages and settlements that take effect together, or not at all."""
import uuid
from ctypes import byref, c_uint64

from . import _properties
from ._library import Error, Message as Struct, error, level_of, library, milliseconds

ACCEPT, RELEASE = 0, 1
UNCOUNTED, OPTIONAL = 1, 4


class Transaction:
    """Made by Connection.transaction. A context manager: committed when its block ends, rolled back when that raises."""

    def __init__(self, connection, timeout, confirm):
        level_of(confirm)
        self._connection, self._confirm, self._messages, self._handle = connection, confirm, [], c_uint64()
        connection._ask(library.fastq_begin, milliseconds(timeout), byref(self._handle))

    def publish(self, queue, body, id=None, exchange=None, key=None, optional=False, **keywords):
        """Adds a message; keywords as those of Connection.publish. One that its queue has already is passed over. Returns its id."""
        from ._connection import _target
        id = uuid.uuid4().hex if id is None else str(id)
        properties, body = _properties.write(id=id, **_target(queue, exchange, key), **keywords), bytes(body)
        with self._connection._turn() as handle:
            to = self._connection._queue(handle, queue, exchange)
            self._check(library.fastq_add_publish(handle, self._handle, to, body, len(body), properties, len(properties), OPTIONAL if optional and exchange is not None else 0))
        return id

    def accept(self, message):
        """Adds that a message is done with. It stays in hand until the commit; so with the others."""
        self._settle(message, lambda handle, s, one: library.fastq_add_settle(handle, self._handle, s, one, ACCEPT, 0, 0))

    def release(self, message, delay=0.0, count=True):
        self._settle(message, lambda handle, s, one: library.fastq_add_settle(handle, self._handle, s, one, RELEASE, milliseconds(delay), 0 if count else UNCOUNTED))

    def reject(self, message, reason=None, details=None):
        words = [text.encode() if text else None for text in (reason, details)]
        self._settle(message, lambda handle, s, one: library.fastq_add_reject(handle, self._handle, s, one, *words))

    def _settle(self, message, add):
        if message._subscription.connection is not self._connection:
            raise Error("bad-argument", "A transaction settles what came by its own connection")
        with self._connection._turn() as handle:
            self._check(add(handle, message._subscription._handle, byref(Struct(number=message._number, life=message._life))))
        self._messages.append(message)

    def commit(self, confirm=None):
        """Sends it, and waits until it is confirmed. When it is refused, nothing of it has happened, and what it was to settle is still in hand."""
        level, number = level_of(self._confirm if confirm is None else confirm), c_uint64()
        with self._connection._turn() as handle:
            self._check(library.fastq_commit_transaction(handle, self._handle, level, byref(number)))
            if number.value:
                try:
                    self._connection._await(handle, number.value, max(level, 1))
                except Error as refused:
                    if refused.code in ("queue-deleted", "unknown-queue", "unknown-exchange"):
                        self._connection._queues.clear()
                    raise
            for message in self._messages:
                message._forget()

    def rollback(self):
        """Forgets it."""
        self._connection._ask(library.fastq_rollback, self._handle)

    def _check(self, code):
        if code:
            raise error(code)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.commit()
        elif not self._connection.closed:
            with self._connection._turn() as handle:
                library.fastq_rollback(handle, self._handle)  # What raised is what counts, not that its time was over, too.
