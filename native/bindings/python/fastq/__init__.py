"""FastQ from Python: queues over shared memory, through libfastq.

    import fastq

    with fastq.connect() as c:
        c.declare_queue("work")
        c.publish("work", b"hello")                     # back when it is on the disk
        with c.subscribe("work") as s:
            m = s.receive(timeout=1.0)
            print(bytes(m.body))
            m.accept()

A connection may be used by several threads, which take turns. In a forked child it raises Error("forked"): connect anew there. Times are
seconds. Errors are fastq.Error, whose code is the text that scripts see, as "unknown-queue".
"""
from ._connection import Connection, Published, connect
from ._library import Error, version
from ._request import Reply
from ._subscription import Message, Subscription
from ._transaction import Transaction

__all__ = ["Connection", "Error", "Message", "Published", "Reply", "Subscription", "Transaction", "connect", "version"]
