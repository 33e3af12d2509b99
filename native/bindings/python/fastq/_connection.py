"""A connection to the broker: publishing, queues, single messages."""
import array
import asyncio
import base64
import contextlib
import ctypes
import itertools
import json
import threading
import time
import uuid
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint32, c_uint64

from . import _properties
from ._library import ABI, DUPLICATE, NO_REQUESTER, TIMED_OUT, Browsed, Error, Status, error, level_of, library, milliseconds, nanoseconds
from ._request import ADDRESS, LAST, Requests
from ._subscription import SLICE, Subscription
from ._transaction import Transaction

BATCH = 1000
STATES = {1: "ready", 2: "in-flight", 3: "damaged", 4: "delayed", 5: "dead-lettering"}
GONE = ("unknown-queue", "queue-deleted", "unknown-exchange")
OPTIONAL, COUNTED = 4, 8
ANY_HEADER, TO_EXCHANGE = 1, 2
TIMELINESS = ("in-time", "handed-out", "gone")
DURATIONS = ("lease", "ttl", "delay", "dedup_window", "processed_window", "expires", "breaker_pause")


class Published:
    """What became of a message: its id; whether the queue had it already (it counts as published all the same), and the place of the first one;
    how many queues took it (None: not known, as a reconnect came between or nothing was waited for)."""

    __slots__ = ("id", "duplicate", "first", "queues")

    def __init__(self, id, duplicate=False, first=None, queues=None):
        self.id, self.duplicate, self.first, self.queues = id, duplicate, first, queues

    def __repr__(self):
        return f"Published(id={self.id!r}, duplicate={self.duplicate}, queues={self.queues})"


def connect(path=None, client_name="python", patience=15.0):
    """Connects to the broker, waiting for it for `patience` seconds; its restarts are ridden out as long."""
    handle = c_uint64()
    name = client_name.replace("\n", " ")
    options = f"name={name}\npatience={milliseconds(patience)}ms".encode()
    code = library.fastq_open(ABI, path.encode() if path else None, options, byref(handle))
    if code:
        raise error(code)
    return Connection(handle.value)


def _lines(**options):
    """Options for the library; what is None is left out."""
    return "\n".join(f"{key.replace('_', '-')}={_text(value)}" for key, value in options.items() if value is not None).encode()


def _text(value):
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _seconds(value):
    return None if value is None else value if isinstance(value, str) else f"{milliseconds(value)}ms"


class Connection(Requests):
    """Made by connect. A context manager. Several threads may use it; each call has its turn."""

    def __init__(self, handle):
        self._handle, self._gate, self._waiting, self._queues, self._sleepers, self._loop = handle, threading.RLock(), 0, {}, set(), None
        self.closed = False

    # ---- turns

    @contextlib.contextmanager
    def _turn(self):
        if not self._gate.acquire(blocking=False):
            self._waiting += 1
            try:
                self._gate.acquire()
            finally:
                self._waiting -= 1
        try:
            if self.closed:
                raise Error("closed", "The connection was closed by this program")
            yield self._handle
        finally:
            if self._sleepers and not self.closed:
                self._arm_for_sleepers()
            self._gate.release()
            if self._waiting:
                time.sleep(0.0001)  # A lock is not fair: whoever waits for its turn gets it now.

    def _ask(self, function, *arguments):
        with self._turn() as handle:
            code = function(handle, *arguments)
            if code:
                raise error(code)

    def _ask_text(self, function, *arguments):
        with self._turn() as handle:
            text = c_char_p()
            code = function(handle, *arguments, byref(text))
            if code:
                raise error(code)
            return json.loads(text.value)

    def _await(self, handle, number, level, timeout=None):
        """Waits in slices, so that Ctrl-C is heard. False: it was a duplicate, or a reply that nobody waits for."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            code = library.fastq_wait(handle, number, level, nanoseconds(SLICE))
            if code == TIMED_OUT and (deadline is None or time.monotonic() < deadline):
                continue
            if code in (DUPLICATE, NO_REQUESTER):
                return False
            if code:
                raise error(code)
            return True

    # ---- publishing

    def _queue(self, handle, name, exchange=None):
        """The broker's number of a queue, or of an exchange."""
        known = name if exchange is None else (exchange,)
        queue = self._queues.get(known)
        if queue is None:
            found = c_uint32()
            code = library.fastq_open_queue(handle, name.encode(), byref(found)) if exchange is None else library.fastq_open_exchange(handle, exchange.encode(), byref(found))
            if code:
                raise error(code)
            queue = self._queues[known] = found.value
        return queue

    def _again(self, call, handle, queue, exchange=None):
        """What is published to a queue that was deleted and made anew since it was looked up is published to the new one."""
        try:
            return call(handle, self._queue(handle, queue, exchange))
        except Error as refused:
            if refused.code not in GONE or self._queues.pop(queue if exchange is None else (exchange,), None) is None:
                raise
            return call(handle, self._queue(handle, queue, exchange))

    def publish(self, queue, body, confirm="durable", id=None, headers=None, group=None, dedup_id=None, priority=0, ttl=None, delay=None, type=None,
                correlation_id=None, reply_to=None, tenant=None, exchange=None, key=None, optional=False, **more):
        """Publishes a message and waits for its confirm. id: made up where none is given. exchange, with queue None: to every queue that the
        exchange gives it to, by its routing key `key`; optional: that it reaches none is fine. Else key is what the message is about. more:
        content_type, content_encoding, schema_version, unique, unique_until, deliver_at, schedule_key, schedule_mode ("replace", "debounce",
        "keep"), longest_wait. A queue that is a request's reply_to: the message is the reply."""
        level = level_of(confirm)
        id = uuid.uuid4().hex if id is None else str(id)
        properties = _properties.write(headers=headers, ttl=ttl, delay=delay, priority=priority, id=id, group=group, dedup_id=dedup_id, type=type,
                                       correlation_id=correlation_id, reply_to=reply_to, tenant=tenant, **_target(queue, exchange, key), **more)
        body = bytes(body)
        if exchange is None and queue.startswith(ADDRESS):
            if not self._send_reply(queue, body, properties, 0, LAST):
                raise Error("no-requester", "Nobody waits for this reply any more")
            return Published(id, queues=0)
        flags = 0 if exchange is None else COUNTED * (level > 0) | (OPTIONAL if optional else 0)
        with self._turn() as handle:
            return self._again(lambda handle, to: self._publish(handle, to, body, properties, level, flags, id), handle, queue, exchange)

    def _publish(self, handle, to, body, properties, level, flags, id):
        number = c_uint64()
        code = library.fastq_publish(handle, to, body, len(body), properties, len(properties), level | flags, byref(number))
        if code:
            raise error(code)
        if level and not self._await(handle, number.value, level):
            return Published(id, True, library.fastq_last_value() or None, 0)
        return Published(id, queues=self._routed(handle, number.value) if flags & COUNTED else 1 if level else None)

    def _routed(self, handle, number):
        queues = ctypes.c_int64()
        code = library.fastq_routed(handle, number, byref(queues))
        return queues.value if not code and queues.value >= 0 else None

    def publish_many(self, queue, messages, confirm="durable"):
        """Publishes bytes, or (bytes, dict of publish's keywords), and waits once, for all. Returns how many; raises the first refusal."""
        level, count, messages = level_of(confirm), 0, iter(messages)
        while chunk := list(itertools.islice(messages, BATCH)):
            if tuple in set(map(type, chunk)):
                for (to, exchange, flags), part in itertools.groupby((_with_keywords(queue, message) for message in chunk), key=lambda one: one[0]):
                    self._publish_pairs(to, exchange, level | flags, list(part))
            else:
                self._publish_chunk(queue, None, level, b"".join(chunk), array.array("I", map(len, chunk)), None)
            count += len(chunk)
        self.flush(confirm)
        return count

    def _publish_pairs(self, queue, exchange, level, pairs):
        properties = array.array("I", [len(pair[1]) for pair in pairs])
        bodies = array.array("I", [len(pair[2]) for pair in pairs])
        self._publish_chunk(queue, exchange, level, b"".join([part for pair in pairs for part in pair[1:]]), bodies, properties)

    def _publish_chunk(self, queue, exchange, level, data, bodies, properties):
        with self._turn() as handle:
            code = library.fastq_publish_batch(handle, self._queue(handle, queue, exchange), data, bodies.buffer_info()[0], properties.buffer_info()[0] if properties else None,
                                               len(bodies), level, None)
            if code:
                raise error(code)

    def flush(self, confirm="durable", timeout=None):
        """Waits until all that was sent so far, settlements too, is confirmed. Raises the first refusal that was not raised before."""
        level = level_of(confirm)
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._turn() as handle:
            while True:
                left = SLICE if deadline is None else min(SLICE, max(0.0, deadline - time.monotonic()))
                code = library.fastq_flush(handle, level, nanoseconds(left))
                if code == TIMED_OUT and (deadline is None or time.monotonic() < deadline):
                    continue
                if code:
                    problem = error(code)
                    if problem.code in GONE:
                        self._queues.clear()
                    raise problem
                return

    # ---- consuming

    def subscribe(self, queue, credit=100, lease=None, mode="manual", priority=None, exclusive=None):
        """A consumer of a queue. credit: most messages in hand. mode "auto": at most once, a message is accepted as it is received."""
        if mode not in ("manual", "auto"):
            raise Error("bad-argument", f"mode is manual or auto, not {mode!r}")
        handle = c_uint64()
        options = _lines(credit=credit, lease=_seconds(lease), auto=mode == "auto", priority=priority, exclusive=exclusive)
        self._ask(library.fastq_subscribe, queue.encode(), options, byref(handle))
        seconds = lease if lease is not None else self.queue(queue)["leaseSeconds"]
        return Subscription(self, queue, handle.value, mode == "auto", seconds, self.status()["epoch"])

    # ---- transactions

    def transaction(self, timeout=30.0, confirm="durable"):
        """Messages and settlements that take effect together when the block ends, or, when it raises, not at all:
        with c.transaction() as t: t.publish(...); t.accept(m). It is rolled back when it is not committed within `timeout` seconds."""
        return Transaction(self, timeout, confirm)

    # ---- queues

    def declare_queue(self, name, lease=None, max_deliveries=None, dead_letter=None, ttl=None, delay=None, max_length=None, max_bytes=None, overflow=None,
                      priority=None, fifo=None, dedup_window=None, fair=None, single_active=None, session=None, **more):
        """Makes a queue; one that exists with the same attributes is fine. What is None is as the broker has it. session: it is this
        connection's alone and goes with it; with name None it gets a name that nobody else has. more: backoff (text as "1s,2,5m"),
        max_message_size, priority_share, fair_weights, dedup_by_group, lz4, require, dead_letter_exchange, processed_window, expires; and
        limits on what flows: max_in_flight, rate (text as "10/s"), burst, group_in_flight, delay_holds_group, tenant_in_flight, tenant_rate,
        tenant_burst, limit, breaker (text as "50%/100"), breaker_pause, publish_rate, publish_burst. Returns the queue's name."""
        if name is None and not session:
            raise Error("bad-argument", "A queue without a name is one of a session's own: session=True")
        shown = self._ask_text(library.fastq_declare_queue, name.encode() if name is not None else None, _attributes(
            lease=lease, ttl=ttl, delay=delay, dedup_window=dedup_window, max_deliveries=max_deliveries, dead_letter=dead_letter, max_length=max_length,
            max_bytes=max_bytes, overflow=overflow, priority=priority, fifo=fifo, fair=fair, single_active=single_active, temporary=session, **more))
        return shown["name"]

    def change_queue(self, name, **attributes):
        """Gives a queue other attributes while it runs; those that are not named stay."""
        self._ask(library.fastq_change_queue, name.encode(), _attributes(**attributes), None)

    def pause_queue(self, name, comes_in=True, goes_out=True):
        """Stops a queue's ways; pause_queue(name, False, False) lets both go on."""
        self._ask(library.fastq_pause_queue, name.encode(), (1 if comes_in else 0) | (2 if goes_out else 0))

    def consumers(self, name):
        """A queue's consumers, with the keys of `fastq queue consumers --json`; "subscription" says which it is."""
        return self._ask_text(library.fastq_list_consumers, name.encode())

    def pause_consumer(self, name, subscription, paused=True):
        """Lets one consumer of a queue stand still, or go on; kept over restarts. What it holds stays its own."""
        self._ask(library.fastq_pause_consumer, name.encode(), subscription, bool(paused))

    def queue(self, name):
        """A queue's attributes and counts, with the keys of `fastq queue show --json`."""
        return self._ask_text(library.fastq_show_queue, name.encode())

    def queues(self):
        return self._ask_text(library.fastq_list_queues)

    def stats(self):
        """The broker's figures, as `fastq stats --json`."""
        return self._ask_text(library.fastq_show_statistics)

    def purge(self, name):
        """Removes what is ready or delayed. Returns how many."""
        purged = c_uint64()
        self._ask(library.fastq_purge_queue, name.encode(), byref(purged))
        return purged.value

    def delete_queue(self, name):
        self._ask(library.fastq_delete_queue, name.encode())
        self._queues.pop(name, None)

    # ---- exchanges

    def declare_exchange(self, name, type="topic", alternate=None):
        """Makes an exchange of type direct, topic, fanout or headers; one that exists with the same attributes is fine. alternate: the exchange that
        gets what this one gives to nobody."""
        self._ask(library.fastq_declare_exchange, name.encode(), _lines(type=type, alternate=alternate), None)

    def delete_exchange(self, name):
        """Deletes an exchange, with the bindings from and to it."""
        self._ask(library.fastq_delete_exchange, name.encode())
        self._queues.pop((name,), None)

    def exchange(self, name):
        """An exchange with its bindings, with the keys of `fastq exchange show --json`."""
        return self._ask_text(library.fastq_show_exchange, name.encode())

    def exchanges(self):
        return self._ask_text(library.fastq_list_exchanges)

    def bind(self, exchange, queue, key="", headers=None, match="all", to_exchange=False):
        """Has an exchange give to a queue what key, or headers, choose; what is bound so already is fine. match: "all" or "any" of the headers.
        to_exchange: `queue` is the name of another exchange."""
        self._ask(library.fastq_bind, *_binding(exchange, queue, key, headers, match, to_exchange))

    def unbind(self, exchange, queue, key="", headers=None, match="all", to_exchange=False):
        """Ends the binding that was made with the same arguments."""
        self._ask(library.fastq_unbind, *_binding(exchange, queue, key, headers, match, to_exchange))

    # ---- schedules

    def cancel_scheduled(self, queue, key):
        """Removes the message that waits under a schedule key: "in-time", "handed-out" or "gone"."""
        return self._change_scheduled(library.fastq_cancel_scheduled, queue, key)

    def reschedule(self, queue, key, delay=None, at=None):
        """Gives the message that waits under a schedule key another time: in so many seconds, or at a datetime. Answers as cancel_scheduled."""
        if (delay is None) == (at is None):
            raise Error("bad-argument", "reschedule takes a delay or a moment")
        if at is not None:
            return self._change_scheduled(library.fastq_reschedule_at, queue, key, _properties.micros(at))
        return self._change_scheduled(library.fastq_reschedule, queue, key, milliseconds(delay))

    def _change_scheduled(self, function, queue, key, *time):
        timeliness = c_uint32()
        self._ask(function, queue.encode(), key.encode(), *time, byref(timeliness))
        return TIMELINESS[timeliness.value]

    def set_schedule(self, name, queue, body, every=None, cron=None, zone=None, missed=None, until=None, count=None, **message):
        """Makes a schedule, or replaces it: every so many seconds, or by a cron expression in a time zone. missed: "one", "all" or "none" of what was
        missed is sent. until: a datetime; count: so many messages. message: publish's keywords. Shows it, as `fastq schedule show --json`."""
        properties, body = _properties.write(**message), bytes(body)
        rule = _lines(every=_seconds(every), cron=cron, zone=zone, missed=missed, until=None if until is None else _properties.micros(until), count=count)
        return self._ask_text(library.fastq_set_schedule, name.encode(), queue.encode(), rule, body, len(body), properties, len(properties))

    def delete_schedule(self, name):
        self._ask(library.fastq_delete_schedule, name.encode())

    def pause_schedule(self, name, paused=True):
        """Lets a schedule stand still, or go on."""
        return self._ask_text(library.fastq_pause_schedule, name.encode(), bool(paused))

    def schedules(self):
        return self._ask_text(library.fastq_list_schedules)

    # ---- limits that queues share

    def declare_limit(self, name, **limits):
        """Makes a limit that queues share by naming it: max_in_flight, rate, burst."""
        return self._ask_text(library.fastq_declare_limit, name.encode(), _lines(**limits))

    def change_limit(self, name, **limits):
        return self._ask_text(library.fastq_change_limit, name.encode(), _lines(**limits))

    def delete_limit(self, name):
        self._ask(library.fastq_delete_limit, name.encode())

    def limits(self):
        return self._ask_text(library.fastq_list_limits)

    # ---- what was processed

    def find_processed(self, queue, key):
        """The result with which a key of a queue was marked (Message.accept_processed); None: it is not."""
        result, length = ctypes.c_void_p(), c_size_t()
        with self._turn() as handle:
            code = library.fastq_find_processed(handle, queue.encode(), key.encode(), byref(result), byref(length))
            if code:
                raise error(code)
            return ctypes.string_at(result, length.value) if result.value is not None else None

    # ---- single messages

    def browse(self, queue, max=100, filter=None):
        """Messages in their places, without taking them: dicts with the keys of `fastq browse --json`."""
        seen, tag, room, count = [], c_uint64(), (Browsed * 32)(), c_size_t()
        while len(seen) < max:
            with self._turn() as handle:
                code = library.fastq_browse(handle, queue.encode(), filter.encode() if filter else None, byref(tag), room, min(32, max - len(seen)), byref(count))
                if code:
                    raise error(code)
                seen.extend(_browsed(queue, one) for one in room[:count.value])
            if tag.value == 0:
                break
        return seen

    def _tag(self, queue, id):
        """The place of a message: of that id, else, where the id is a number, of that place."""
        if isinstance(id, int):
            return id
        for message in self.browse(queue, max=1 << 62, filter=None if '"' in id else f'id="{id}"'):
            if message["properties"].get("messageId") == id:
                return message["tag"]
        if id.isdecimal():
            return int(id)
        raise Error("bad-argument", f"Queue {queue} has no message {id}")

    def delete_message(self, queue, id):
        """Removes one message that is with nobody. id: its id or its place."""
        self._ask(library.fastq_delete_message, queue.encode(), self._tag(queue, id))

    def change_message(self, queue, id, priority=None, due=None):
        """Gives one message that waits another priority, or another time: due in seconds from now, or a datetime."""
        if due is not None and not isinstance(due, (int, float)):
            due = due.timestamp() - time.time()
        delay = -1 if due is None else milliseconds(due if due > 0 else 0)
        self._ask(library.fastq_change_message, queue.encode(), self._tag(queue, id), -1 if priority is None else priority, delay)

    def move_message(self, queue, id, to):
        """Moves one message that is with nobody to another queue; it keeps its id, headers and story."""
        sweep = self._move(queue, to, None, None, self._tag(queue, id))
        if sweep["done"] != 1:
            raise Error("denied", f"Message {id} of queue {queue} is not there, or with a consumer")

    def redrive(self, queue, to=None, filter=None, rate=None):
        """Moves the messages of a dead-letter queue back to where they died, or to another queue; waits for the end. Returns how many."""
        return self._move(queue, to, filter, rate, 0)["done"]

    def _move(self, queue, to, filter, rate, tag):
        sweep = self._ask_text(library.fastq_start_move, queue.encode(), to.encode() if to else None, filter.encode() if filter else None, rate or 0, tag)
        wait = 0.001
        while sweep["state"] == "running":
            time.sleep(wait)
            wait = min(wait * 2, 0.2)
            sweep = self._ask_text(library.fastq_show_move, queue.encode())
        return sweep

    # ---- how it stands

    def status(self):
        """Figures of this connection: epoch, reconnects, resent, duplicates, and more."""
        now = Status(size=ctypes.sizeof(Status))
        self._ask(library.fastq_get_status, byref(now))
        return {name: getattr(now, name) for name, _ in Status._fields_[1:]}

    def close(self):
        """Gives back what is in hand and waits up to 5 seconds for what was sent."""
        with self._gate:
            if self.closed:
                return
            self.closed = True
            library.fastq_close(self._handle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- asyncio

    def fileno(self):
        """A descriptor that is readable when the broker has rung, after `arm` has asked for it. For selectors of any kind."""
        descriptor = c_int()
        self._ask(library.fastq_descriptor, byref(descriptor))
        return descriptor.value

    def arm(self):
        """Asks the broker to ring. True: there is news already, do not wait."""
        ready = c_int()
        self._ask(library.fastq_arm, byref(ready))
        return bool(ready.value)

    async def _wait_for_news(self):
        """Returns when the broker may have something; takes what has come."""
        loop = asyncio.get_running_loop()
        with self._turn() as handle:
            is_there = library.fastq_is_connected(handle) == 0
        if not is_there:  # To wait for the broker would hold up the loop.
            await loop.run_in_executor(None, self._ask, library.fastq_tick)
            return
        descriptor = self.fileno()  # Before the arming: each other call ends that.
        if self.arm():
            await asyncio.sleep(0)
            return
        sleeper, self._loop = loop.create_future(), loop
        if not self._sleepers:
            loop.add_reader(descriptor, self._wake)
        self._sleepers.add(sleeper)
        try:
            await sleeper
        finally:
            self._sleepers.discard(sleeper)
            if not self._sleepers:
                loop.remove_reader(descriptor)

    def _arm_for_sleepers(self):
        """Each call ends the asking to be rung; those that sleep still want it."""
        ready = c_int()
        if library.fastq_arm(self._handle, byref(ready)) or ready.value:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self):
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)


def _attributes(**attributes):
    return _lines(**{name: _seconds(value) if name in DURATIONS else value for name, value in attributes.items()})


def _target(queue, exchange, key):
    """The properties that say where a message goes, or what it is about."""
    if (queue is None) == (exchange is None):
        raise Error("bad-argument", "A message goes to a queue, or, with queue None, to an exchange")
    return {"key": key} if exchange is None else {"exchange": exchange, "routing_key": key}


def _with_keywords(queue, message):
    """((queue, exchange, flags), properties, body) of bytes, or of (bytes, dict)."""
    if not isinstance(message, tuple):
        return (queue, None, 0), b"", message
    keywords = dict(message[1])
    exchange, key, optional = keywords.pop("exchange", None), keywords.pop("key", None), keywords.pop("optional", False)
    if "confirm" in keywords:
        raise Error("bad-argument", "publish_many waits for all alike: confirm is its own keyword")
    to = None if exchange is not None else queue
    return (to, exchange, OPTIONAL if optional and exchange is not None else 0), _properties.write(**_target(to, exchange, key), **keywords), message[0]


def _binding(exchange, queue, key, headers, match, to_exchange):
    if match not in ("all", "any"):
        raise Error("bad-argument", f"match is all or any, not {match!r}")
    written = _properties.write(headers=headers)
    return exchange.encode(), queue.encode(), (key or "").encode(), written, len(written), (ANY_HEADER if match == "any" else 0) | (TO_EXCHANGE if to_exchange else 0)


def _iso(micros):
    return _properties.moment(micros).isoformat().replace("+00:00", "Z")


def _browsed(queue, one):
    """A message as `fastq browse --json` shows it."""
    properties = ctypes.string_at(one.properties, one.property_bytes) if one.properties else b""
    shown = {"queue": queue, "tag": one.tag, "state": STATES.get(one.state, "damaged"), "deliveries": one.delivery_count}
    if one.owner:
        shown["owner"] = ctypes.string_at(one.owner, one.owner_bytes).decode("utf-8", "replace")
    if one.state == 2:
        shown["leaseLeft"] = one.lease_left_ms / 1000
    if one.due_us:
        shown["due"] = _iso(one.due_us)
    if one.reason:
        shown["reason"] = _properties.REASONS.get(one.reason, "unknown")
    if one.state == 5:
        shown["stopped"] = bool(one.stopped)
    if one.behind:
        shown["behindItsGroup"] = True
    if one.time_us:
        shown["timestamp"] = _iso(one.time_us)
    body = ctypes.string_at(one.body, one.body_bytes) if one.body else b""
    encoding = next((value[4:].decode("ascii", "replace") for tag, _, _, value in _properties.read(properties) if tag == _properties.BODY_ENCODING), None)
    try:
        if encoding is not None:
            raise ValueError
        shown["body"] = body.decode()
    except ValueError:
        shown["bodyBase64"] = base64.b64encode(body).decode()
        if encoding is not None:
            shown["bodyEncoding"] = encoding
    shown["bodyBytes"] = one.whole_body_bytes
    shown["properties"], shown["headers"] = _properties.properties(properties), _properties.headers(properties)
    story = _properties.deaths(properties)
    if story:
        shown["deaths"] = story
    return shown

