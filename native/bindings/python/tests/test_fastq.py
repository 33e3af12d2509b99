"""The Python binding against a real broker: FASTQ_BROKER names the binary, FASTQ_LIB the library."""
import asyncio
import datetime
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

import fastq

BROKER = os.environ["FASTQ_BROKER"]


class Broker:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="fastq-python-")
        self.socket = os.path.join(self.folder, "fastq.sock")
        self.start()

    def start(self):
        self.process = subprocess.Popen([BROKER, "serve", "--data", os.path.join(self.folder, "data"), "--socket", self.socket], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout.readline().startswith(b"ready")

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait()
        self.process.stdout.close()

    def remove(self):
        self.kill()
        shutil.rmtree(self.folder)


class WithBroker(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Broker()

    @classmethod
    def tearDownClass(cls):
        cls.broker.remove()

    def setUp(self):
        self.c = fastq.connect(self.broker.socket, client_name="test")
        self.q = self.id().rsplit(".", 1)[1]
        self.addCleanup(self.c.close)

    def refused(self, code, call, *arguments, **keywords):
        with self.assertRaises(fastq.Error) as caught:
            call(*arguments, **keywords)
        self.assertEqual(caught.exception.code, code)
        return caught.exception


class PublishAndConsume(WithBroker):
    def test_a_message_comes_as_it_was_published(self):
        self.c.declare_queue(self.q)
        headers = {"text": "blue", "yes": True, "count": -7, "ratio": 0.5, "bytes": b"\0\1", "when": datetime.datetime(2026, 2, 3, tzinfo=datetime.timezone.utc), "list": [1, "a", [2.5]], "table": {"a": {"b": None or False}}}
        r = self.c.publish(self.q, b"body", id="order-17", headers=headers, type="order", correlation_id="c-1", reply_to="answers", tenant="gold", group="g", priority=7)
        self.assertEqual((r.id, r.duplicate), ("order-17", False))
        with self.c.subscribe(self.q) as s:
            m = s.receive(timeout=10)
            self.assertEqual((bytes(m.body), m.id, m.delivery_count, m.redelivered, m.dead_letter), (b"body", "order-17", 1, False, None))
            self.assertEqual(m.headers, headers)
            self.assertEqual(m.properties, {"messageId": "order-17", "type": "order", "correlationId": "c-1", "replyTo": "answers", "tenant": "gold", "group": "g", "priority": 7})
            self.assertLess(abs((datetime.datetime.now(datetime.timezone.utc) - m.timestamp).total_seconds()), 60)
            self.assertTrue(0 < m.lease_left <= 30)
            m.accept()
            self.assertIsNone(s.receive(timeout=0))
        self.assertEqual(self.c.queue(self.q)["messages"], 0)

    def test_an_id_is_made_up_where_none_is_given(self):
        self.c.declare_queue(self.q)
        r = self.c.publish(self.q, b"x")
        self.assertEqual(self.c.subscribe(self.q).receive(10).id, r.id)

    def test_a_body_raises_once_it_is_settled_and_never_shows_other_bytes(self):
        self.c.declare_queue(self.q)
        self.c.publish_many(self.q, [b"first body", b"second", b"third"])
        s = self.c.subscribe(self.q)
        m, other = s.receive(10), s.receive(10)
        view, part, copy = m.body, m.body[6:], bytes(m.body)
        m.accept()
        self.assertRaises(ValueError, lambda: view[0])
        self.refused("already-settled", lambda: m.body)
        self.refused("already-settled", m.accept)
        self.c.purge(self.q)
        self.assertEqual((bytes(part), copy, bytes(other.body)), (b"body", b"first body", b"second"))

    def test_many_are_published_received_and_accepted_in_batches(self):
        self.c.declare_queue(self.q)
        self.assertEqual(self.c.publish_many(self.q, (b"%d" % i if i % 2 else (b"%d" % i, {"headers": {"i": i}, "id": f"m{i}"}) for i in range(5000))), 5000)
        s, seen = self.c.subscribe(self.q, credit=500), 0
        while seen < 5000:
            messages = s.receive_many(100, timeout=10)
            self.assertTrue(messages)
            for m in messages:
                self.assertEqual(bytes(m.body), b"%d" % seen)
                self.assertEqual(m.headers, {} if seen % 2 else {"i": seen})
                seen += 1
            s.accept_many(messages, confirm="none")
        self.c.flush("durable")
        self.assertEqual(self.c.queue(self.q)["accepted"], 5000)
        self.assertEqual(s.receive_many(10, timeout=0.01), [])

    def test_a_released_message_comes_again_and_a_rejected_one_tells_why(self):
        self.c.declare_queue(self.q)
        self.c.publish(self.q, b"x")
        s = self.c.subscribe(self.q)
        m = s.receive(10)
        token = m.token
        m.release()
        m = s.receive(10)
        self.assertEqual((m.delivery_count, m.redelivered), (2, True))
        self.assertGreater(m.token, token)
        m.release(count=False)
        m = s.receive(10)
        self.assertEqual(m.delivery_count, 2)
        m.extend(60)
        self.assertGreater(m.lease_left, 50)
        m.reject("no such customer", details="line 7")
        dead = self.c.subscribe(self.q + ".dead").receive(10)
        self.assertEqual({key: dead.dead_letter[key] for key in ("source", "reason", "text", "count")}, {"source": self.q, "reason": "rejected", "text": "no such customer", "count": 1})
        self.assertEqual(dead.deaths[0]["details"], "line 7")
        dead.release(delay=3600)
        self.assertEqual(self.c.queue(self.q + ".dead")["delayed"], 1)
        self.assertEqual(self.c.redrive(self.q + ".dead"), 1)

    def test_at_most_once_messages_are_accepted_as_they_come(self):
        self.c.declare_queue(self.q)
        self.c.publish_many(self.q, [b"a", b"b"])
        s = self.c.subscribe(self.q, mode="auto")
        bodies = []
        while len(bodies) < 2:
            bodies += [bytes(m.body) for m in s.receive_many(10, timeout=10)]
        self.c.flush("accepted")
        self.assertEqual((bodies, self.c.queue(self.q)["accepted"]), ([b"a", b"b"], 2))

    def test_a_closed_subscription_gives_back_what_it_holds_uncounted(self):
        self.c.declare_queue(self.q)
        self.c.publish_many(self.q, [b"a", b"b", b"c"])
        s = self.c.subscribe(self.q)
        self.assertEqual([bytes(m.body) for m in (s.receive(10), s.receive(10))], [b"a", b"b"])
        s.close()
        self.assertEqual((self.c.queue(self.q)["ready"], self.c.queue(self.q)["consumers"]), (3, 0))
        m = self.c.subscribe(self.q).receive(10)
        self.assertEqual((bytes(m.body), m.delivery_count), (b"a", 1))

    def test_a_late_settlement_is_told(self):
        self.c.declare_queue(self.q)
        self.c.publish(self.q, b"x")
        s = self.c.subscribe(self.q, lease=0.02)
        m = s.receive(10)
        again = fastq.connect(self.broker.socket)
        other = again.subscribe(self.q).receive(10)
        self.assertGreaterEqual(other.delivery_count, 2)
        self.refused("lease-lost", m.accept)
        other.accept()
        again.close()

    def test_a_loop_ends_with_its_subscription(self):
        self.c.declare_queue(self.q)
        self.c.publish_many(self.q, [b"%d" % i for i in range(10)])
        s, seen = self.c.subscribe(self.q), []
        for m in s:
            seen.append(bytes(m.body))
            m.accept(confirm="none")
            if len(seen) == 10:
                s.close()
        self.assertEqual(seen, [b"%d" % i for i in range(10)])

    def test_refusals_are_raised(self):
        self.refused("unknown-queue", self.c.publish, "nowhere", b"x")
        self.refused("unknown-queue", self.c.subscribe, "nowhere")
        self.refused("bad-argument", self.c.publish, "nowhere", b"x", confirm="perhaps")
        self.refused("bad-name", self.c.declare_queue, "fastq.x")
        self.c.declare_queue(self.q, max_length=1)
        self.c.publish(self.q, b"x")
        self.assertEqual(self.refused("limit-reached", self.c.publish, self.q, b"y").value, 1)
        self.refused("limit-reached", self.c.publish_many, self.q, [b"y", b"z"])
        self.c.flush()
        self.refused("queue-exists", self.c.declare_queue, self.q)
        self.c.delete_queue(self.q)
        self.c.declare_queue(self.q, require="type")
        self.refused("missing-property", self.c.publish, self.q, b"x")
        self.c.publish(self.q, b"x", type="t")

    def test_a_queue_made_anew_takes_messages_of_a_connection_that_knew_the_old_one(self):
        self.c.declare_queue(self.q)
        self.c.publish(self.q, b"old")
        other = fastq.connect(self.broker.socket)
        other.delete_queue(self.q)
        other.declare_queue(self.q)
        other.close()
        self.c.publish(self.q, b"new")
        self.assertEqual(self.c.queue(self.q)["messages"], 1)

    def test_a_duplicate_counts_as_published(self):
        self.c.declare_queue(self.q, dedup_window=60)
        first, second = self.c.publish(self.q, b"x", dedup_id="d"), self.c.publish(self.q, b"x", dedup_id="d")
        self.assertEqual((first.duplicate, second.duplicate, self.c.queue(self.q)["messages"]), (False, True, 1))

    def test_delays_and_times_to_live(self):
        self.c.declare_queue(self.q, ttl=3600, delay=0)
        self.c.publish(self.q, b"later", delay=3600)
        self.c.publish(self.q, b"soon", delay=0.01)
        s = self.c.subscribe(self.q)
        m = s.receive(10)
        self.assertEqual(bytes(m.body), b"soon")
        self.assertEqual(self.c.queue(self.q)["delayed"], 1)
        self.c.change_message(self.q, self.c.browse(self.q, filter="state=delayed")[0]["tag"], due=0)
        self.assertEqual(bytes(s.receive(10).body), b"later")


class Queues(WithBroker):
    def test_a_queue_has_the_attributes_that_it_was_declared_with(self):
        self.c.declare_queue(self.q, lease=90.5, max_deliveries=7, dead_letter="graves", ttl=3600, delay=0.25, max_length=10, max_bytes=5000, overflow="drop-head", priority=True, fifo=False, dedup_window=86400, fair=True, single_active=False, backoff="1s,2,5m")
        q = self.c.queue(self.q)
        self.assertEqual({key: q[key] for key in ("leaseSeconds", "maxDeliveries", "deadLetter", "ttlSeconds", "delaySeconds", "maxLength", "maxBytes", "overflow", "priority", "fifo", "dedupWindowSeconds", "fair", "backoff")},
                         {"leaseSeconds": 90.5, "maxDeliveries": 7, "deadLetter": "graves", "ttlSeconds": 3600, "delaySeconds": 0.25, "maxLength": 10, "maxBytes": 5000, "overflow": "drop-head", "priority": True, "fifo": False,
                          "dedupWindowSeconds": 86400, "fair": True, "backoff": {"firstSeconds": 1, "factor": 2, "mostSeconds": 300}})
        self.c.change_queue(self.q, max_length=20)
        self.c.pause_queue(self.q)
        self.assertEqual((self.c.queue(self.q)["maxLength"], self.c.queue(self.q)["paused"]), (20, ["in", "out"]))
        self.c.pause_queue(self.q, False, False)
        with self.c.subscribe(self.q):
            [consumer] = self.c.consumers(self.q)
            self.c.pause_consumer(self.q, consumer["subscription"])
            self.assertEqual(self.c.consumers(self.q), [{**consumer, "paused": True}])
            self.c.pause_consumer(self.q, consumer["subscription"], False)
            self.assertEqual(self.c.consumers(self.q), [consumer])
        self.assertIn(self.q, [one["name"] for one in self.c.queues()])
        self.assertIn("version", str(self.c.stats()).lower())

    def test_a_queue_shows_the_keys_that_the_command_line_shows(self):
        self.c.declare_limit(self.q, max_in_flight=5)
        self.c.declare_queue(self.q, max_in_flight=3, rate="10/m", burst=2, breaker="50%/100", breaker_pause=1.5, fair=True, tenant_rate="5/h", limit=self.q, expires=3600, processed_window=60)
        shown = subprocess.run([BROKER, "queue", "show", self.q, "--socket", self.broker.socket, "--json"], check=True, capture_output=True, text=True).stdout
        import json
        known = json.loads(shown)
        self.assertEqual(known["flow"]["breakerPauseSeconds"], 1.5)
        self.assertEqual(self.c.queue(self.q), known)

    def test_browsing_shows_what_the_command_line_shows(self):
        import json
        self.c.declare_queue(self.q)
        self.c.publish(self.q, "grüße".encode(), id="a", headers={"n": 1, "list": ["x", {"y": True}]}, type="t")
        self.c.publish(self.q, b"\xff\xfe", id="b")
        self.c.publish(self.q, b"later", id="c", delay=3600)
        with self.c.subscribe(self.q, credit=1) as consumer:
            consumer.receive(10).release(delay=3600, confirm="durable")
        shown = subprocess.run([BROKER, "browse", self.q, "--socket", self.broker.socket, "--json"], check=True, capture_output=True, text=True).stdout
        mine, theirs = self.c.browse(self.q), [json.loads(line) for line in shown.splitlines()]
        for one in mine + theirs:
            for key in ("timestamp", "due"):
                one.pop(key, None)
        self.assertEqual(mine, theirs)
        self.assertEqual([one.get("reason") for one in mine], ["released", None, None])

    def test_single_messages_are_deleted_moved_and_changed_by_id(self):
        self.c.declare_queue(self.q, priority=True)
        self.c.declare_queue(self.q + "-slow")
        for id in ("a", "b", "c d", 'e"f'):
            self.c.publish(self.q, id.encode(), id=id)
        self.c.delete_message(self.q, "a")
        self.c.move_message(self.q, "c d", self.q + "-slow")
        self.c.change_message(self.q, 'e"f', priority=9)
        self.assertEqual([m["properties"]["messageId"] for m in self.c.browse(self.q + "-slow")], ["c d"])
        self.assertEqual(self.c.subscribe(self.q).receive(10).id, 'e"f')
        self.refused("bad-argument", self.c.delete_message, self.q, "zzz")
        self.assertEqual(self.c.purge(self.q + "-slow"), 1)


def rows(text):
    import json
    return [json.loads(line) for line in text.splitlines()]


class Exchanges(WithBroker):
    def shown(self, *arguments):
        return subprocess.run([BROKER, *arguments, "--socket", self.broker.socket, "--json"], check=True, capture_output=True, text=True).stdout

    def test_a_message_to_an_exchange_tells_how_many_queues_took_it(self):
        self.c.declare_exchange(self.q, type="topic", alternate=None)
        for name, key in (("a", "order.*"), ("b", "#")):
            self.c.declare_queue(self.q + name)
            self.c.bind(self.q, self.q + name, key=key)
        r = self.c.publish(None, b"body", exchange=self.q, key="order.made")
        self.assertEqual((r.queues, r.duplicate), (2, False))
        self.assertEqual(self.c.publish(None, b"body", exchange=self.q, key="stock").queues, 1)
        self.assertEqual(self.c.publish(self.q + "a", b"body", key="customer-7").queues, 1)
        self.assertIsNone(self.c.publish(None, b"body", exchange=self.q, key="stock", confirm="none").queues)
        m = self.c.subscribe(self.q + "a").receive(10)
        self.assertEqual((m.properties["exchange"], m.properties["routingKey"]), (self.q, "order.made"))
        self.c.unbind(self.q, self.q + "b", key="#")
        self.refused("unroutable", self.c.publish, None, b"x", exchange=self.q, key="stock")
        self.assertEqual(self.c.publish(None, b"x", exchange=self.q, key="stock", optional=True).queues, 0)
        self.assertEqual(self.c.publish_many(None, [(b"%d" % i, {"exchange": self.q, "key": "order.x"}) for i in range(5)]), 5)
        self.assertEqual(self.c.publish_many(self.q + "a", [b"x", (b"y", {"exchange": self.q, "key": "order.y"}), (b"z", {"key": "about"})]), 3)
        self.assertEqual(self.c.queue(self.q + "a")["messages"], 10)
        import json
        self.assertEqual(self.c.exchange(self.q), json.loads(self.shown("exchange", "show", self.q)))
        self.assertIn(self.q, [one["name"] for one in self.c.exchanges()])
        self.c.delete_exchange(self.q)
        self.refused("unknown-exchange", self.c.exchange, self.q)
        self.refused("unknown-exchange", self.c.publish, None, b"x", exchange=self.q, key="order.x")
        self.refused("bad-argument", self.c.publish, None, b"x")
        self.refused("bad-argument", self.c.publish, "q", b"x", exchange=self.q)
        self.c.declare_exchange(self.q, type="fanout")  # Made anew, it is found anew.
        self.c.bind(self.q, self.q + "b")
        self.assertEqual(self.c.publish(None, b"x", exchange=self.q).queues, 1)

    def test_a_binding_chooses_by_headers_or_gives_to_another_exchange(self):
        self.c.declare_queue(self.q)
        self.c.declare_exchange(self.q, type="headers")
        self.c.declare_exchange(self.q + "-all", type="fanout")
        self.c.bind(self.q, self.q, headers={"colour": "blue", "count": 7, "ratio": 0.5}, match="any")
        self.c.bind(self.q + "-all", self.q, to_exchange=True)
        self.assertEqual(self.c.publish(None, b"x", exchange=self.q + "-all", headers={"count": 7}).queues, 1)
        self.refused("unroutable", self.c.publish, None, b"x", exchange=self.q + "-all", headers={"count": 8})
        import json
        for name in (self.q, self.q + "-all"):
            self.assertEqual(self.c.exchange(name), json.loads(self.shown("exchange", "show", name)))
        self.c.unbind(self.q, self.q, headers={"colour": "blue", "count": 7, "ratio": 0.5}, match="any")
        self.assertEqual(self.c.exchange(self.q)["to"], [])
        self.refused("bad-argument", self.c.bind, self.q, self.q, match="some")

    def test_a_queue_of_the_sessions_own_goes_with_it(self):
        other = fastq.connect(self.broker.socket)
        name = other.declare_queue(None, session=True)
        again = other.declare_queue(self.q, session=True)
        self.assertEqual(again, self.q)
        other.declare_exchange(self.q, type="fanout")
        other.bind(self.q, name)
        s = other.subscribe(name)
        self.refused("denied", self.c.subscribe, name)
        self.c.publish(None, b"news", exchange=self.q)
        self.assertEqual(bytes(s.receive(10).body), b"news")
        other.close()
        while name in [one["name"] for one in self.c.queues()]:
            pass
        self.refused("unknown-queue", self.c.queue, self.q)
        self.refused("bad-argument", self.c.declare_queue, None)

    def test_compressed_bodies_are_read_by_the_net_client_and_its_are_read_here(self):
        self.c.declare_queue(self.q, lz4=1000)
        body = b"order, customer, address; " * 4000
        self.c.publish(self.q, body, id="a", type="t")
        seen = self.c.browse(self.q)[0]
        self.assertEqual(seen["bodyEncoding"], "lz4")
        self.assertLess(seen["bodyBytes"], len(body) // 20)
        consumed = subprocess.run([BROKER, "consume", self.q, "--max", "1", "--format", "json", "--socket", self.broker.socket], check=True, capture_output=True, text=True).stdout
        self.assertEqual(rows(consumed)[0]["body"].encode(), body)
        subprocess.run([BROKER, "publish", self.q, "--body", body.decode(), "--socket", self.broker.socket], check=True, capture_output=True)
        self.assertEqual(self.c.browse(self.q)[0]["bodyEncoding"], "lz4")
        self.assertEqual(bytes(self.c.subscribe(self.q).receive(10).body), body)


class Transactions(WithBroker):
    def test_what_is_in_a_block_takes_effect_together(self):
        self.c.declare_queue(self.q)
        self.c.declare_queue(self.q + "-out")
        self.c.publish_many(self.q, [b"a", b"b", b"c", b"d"])
        s = self.c.subscribe(self.q)
        a, b, c, d = (s.receive(10) for _ in range(4))
        with self.c.transaction() as t:
            id = t.publish(self.q + "-out", b"result", headers={"n": 1}, type="t")
            t.accept(a)
            t.release(b, delay=3600)
            t.reject(c, "not mine")
            self.assertEqual(self.c.queue(self.q + "-out")["messages"], 0)
            self.assertEqual(bytes(a.body), b"a")
        self.refused("already-settled", lambda: a.body)
        q = self.c.queue(self.q)
        self.assertEqual((self.c.queue(self.q + "-out")["messages"], q["accepted"], q["delayed"], q["rejected"], q["inFlight"]), (1, 1, 1, 1, 1))
        m = self.c.subscribe(self.q + "-out").receive(10)
        self.assertEqual((m.id, m.headers, m.properties["type"]), (id, {"n": 1}, "t"))
        with self.assertRaises(ZeroDivisionError):
            with self.c.transaction() as t:
                t.publish(self.q + "-out", b"never")
                t.accept(d)
                1 / 0
        self.assertEqual(self.c.queue(self.q + "-out")["messages"], 1)
        d.accept()

    def test_one_that_is_refused_has_changed_nothing(self):
        self.c.declare_queue(self.q)
        self.c.declare_queue(self.q + "-full", max_length=1)
        self.c.publish(self.q, b"a")
        self.c.publish(self.q + "-full", b"fits")
        s = self.c.subscribe(self.q)
        m = s.receive(10)
        t = self.c.transaction(timeout=60)
        t.accept(m)
        t.publish(self.q + "-full", b"does not")
        self.assertIn("Operation 2", self.refused("limit-reached", t.commit, "durable").message)
        self.assertEqual(bytes(m.body), b"a")
        m.accept()
        self.refused("closed", t.commit)
        t = self.c.transaction()
        self.refused("already-settled", t.accept, m)
        t.rollback()
        late = self.c.transaction(timeout=0.001)
        with self.assertRaises(fastq.Error) as caught:
            while True:
                late.publish(self.q, b"late")
        self.assertEqual(caught.exception.code, "timed-out")
        other = fastq.connect(self.broker.socket)
        self.c.publish(self.q, b"b")
        mine = s.receive(10)
        self.refused("bad-argument", other.transaction().accept, mine)
        other.close()
        self.c.declare_exchange(self.q, type="fanout")
        with self.assertRaises(fastq.Error) as caught:
            with self.c.transaction() as t:
                t.accept(mine)
                t.publish(None, b"to nobody", exchange=self.q)
        self.assertEqual(caught.exception.code, "unroutable")
        with self.c.transaction(confirm="written") as t:
            t.accept(mine)
            t.publish(None, b"to nobody", exchange=self.q, optional=True)

    def test_a_transaction_survives_a_kill_of_the_broker(self):
        broker = Broker()
        c = fastq.connect(broker.socket, patience=60)
        c.declare_queue("in")
        c.declare_queue("out")
        c.publish("in", b"a")
        m = c.subscribe("in").receive(10)
        with c.transaction() as t:
            t.publish("out", b"b")
            t.accept(m)
            broker.kill()
            broker.start()
        self.assertEqual((c.queue("in")["messages"], c.queue("out")["messages"]), (0, 1))
        c.close()
        broker.remove()


class RequestReply(WithBroker):
    def respond(self, work, count=1):
        """A responder of its own connection, in a thread."""
        self.c.declare_queue(self.q)
        other = fastq.connect(self.broker.socket, client_name="responder")
        s = other.subscribe(self.q)

        def run():
            for _ in range(count):
                work(s.receive(30))
            other.close()

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)

    def test_a_request_gets_its_reply(self):
        self.respond(lambda m: self.assertTrue(m.reply(bytes(m.body).upper(), headers={"by": "me"}, type="answer")))
        reply = self.c.request(self.q, b"hello", timeout=30.0, headers={"a": 1}, type="question")
        self.assertEqual((reply.body, reply.headers, reply.type), (b"HELLO", {"by": "me"}, "answer"))
        self.assertEqual(self.c.queue(self.q)["accepted"], 1)

    def test_why_there_is_none_is_told(self):
        self.refused("unknown-queue", self.c.request, "nowhere", b"x", timeout=1.0)
        self.c.declare_queue(self.q)
        self.refused("no-responder", self.c.request, self.q, b"x", timeout=30.0)
        s = self.c.subscribe(self.q)
        self.refused("timed-out", self.c.request, self.q, b"x", timeout=0.05)
        self.refused("timed-out", self.c.request, self.q, b"x", timeout=0.05, wait_for_responder=True)
        s.close()
        self.refused("no-responder", self.c.request, self.q, b"x", timeout=30.0)
        with self.assertRaises(TypeError):
            self.c.request(self.q, b"x", ttl=5)
        self.respond(lambda m: m.reply_error("no-stock", "none left"))
        self.assertEqual(self.refused("no-stock", self.c.request, self.q, b"x").message, "none left")

    def test_a_rejected_request_is_told_and_so_is_a_dead_responder(self):
        self.respond(lambda m: m.reject("not mine"))
        self.assertEqual(self.refused("rejected", self.c.request, self.q, b"x").message, "not mine")
        code = f"import fastq, os, signal; c = fastq.connect({self.broker.socket!r}); m = c.subscribe({self.q!r}).receive(30); os.kill(os.getpid(), signal.SIGKILL)"
        victim = subprocess.Popen([sys.executable, "-c", code])
        self.refused("no-responder", self.c.request, self.q, b"x", timeout=60.0, wait_for_responder=True)
        victim.wait()

    def test_an_answer_in_parts_is_an_iterator(self):
        def work(m):
            for i in range(100):
                self.assertTrue(m.reply_part(b"%d" % i))
            m.end_reply()

        self.respond(work)
        self.assertEqual([int(part.body) for part in self.c.request_stream(self.q, b"count", timeout=30)], list(range(100)))

    def test_who_leaves_the_loop_tells_the_responder(self):
        told = []

        def work(m):
            while m.reply_part(b"more"):
                pass
            told.append("stopped")
            self.assertFalse(m.end_reply())

        self.respond(work)
        for part in self.c.request_stream(self.q, b"all", timeout=30):
            break
        while not told:
            self.c.queue(self.q)  # What comes is met by the next call.

    def test_a_program_may_reply_by_publishing_to_the_address_or_to_a_queue(self):
        def work(m):
            self.c2.publish(m.properties["replyTo"], b"by address")
            m.accept()

        self.c2 = fastq.connect(self.broker.socket)
        self.addCleanup(self.c2.close)
        self.respond(work)
        self.assertEqual(self.c.request(self.q, b"x").body, b"by address")
        self.refused("no-requester", self.c.publish, "fastq.reply.999999.1", b"x")
        self.c.declare_queue(self.q + "-answers")
        self.c.publish(self.q, b"old style", reply_to=self.q + "-answers", correlation_id="c-1")
        m = self.c.subscribe(self.q).receive(10)
        self.assertTrue(m.is_request and m.reply(b"answer"))
        m = self.c.subscribe(self.q + "-answers").receive(10)
        self.assertEqual((bytes(m.body), m.properties["correlationId"], m.is_request), (b"answer", "c-1", False))
        self.refused("bad-argument", m.reply, b"to whom?")

    def test_the_command_line_answers_and_asks(self):
        self.c.declare_queue(self.q)
        responder = subprocess.Popen([BROKER, "reply", self.q, "--exec", "tr a-z A-Z", "--socket", self.broker.socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.assertEqual(self.c.request(self.q, b"hello", timeout=60.0, wait_for_responder=True).body.strip(), b"HELLO")
        responder.terminate()
        responder.wait()

    def test_many_requests_wait_in_one_event_loop(self):
        self.respond(lambda m: m.reply(m.body, confirm="none"), count=50)

        async def run():
            return await asyncio.gather(*[self.c.request_async(self.q, b"%d" % i, timeout=60) for i in range(50)])

        self.assertEqual([int(reply.body) for reply in asyncio.run(run())], list(range(50)))

        async def late():
            await self.c.request_async(self.q, b"x", timeout=0.05, wait_for_responder=True)

        self.refused("timed-out", lambda: asyncio.run(late()))


class Time(WithBroker):
    def test_a_message_that_waits_is_replaced_kept_moved_and_cancelled_by_its_key(self):
        self.c.declare_queue(self.q)
        self.c.publish(self.q, b"first", delay=3600, schedule_key="k")
        self.c.publish(self.q, b"second", delay=3600, schedule_key="k")
        self.assertTrue(self.c.publish(self.q, b"third", delay=3600, schedule_key="k", schedule_mode="keep").duplicate)
        self.assertEqual([m["body"] for m in self.c.browse(self.q)], ["second"])
        self.assertEqual(self.c.reschedule(self.q, "k", at=datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)), "in-time")
        self.assertEqual(self.c.reschedule(self.q, "k", delay=0), "in-time")
        s = self.c.subscribe(self.q)
        m = s.receive(10)
        self.assertEqual((bytes(m.body), self.c.cancel_scheduled(self.q, "k")), (b"second", "handed-out"))
        m.accept()
        self.assertEqual(self.c.cancel_scheduled(self.q, "k"), "gone")
        self.c.publish(self.q, b"off", delay=3600, schedule_key="k", schedule_mode="debounce", longest_wait=0.001)
        self.c.publish(self.q, b"off", delay=3600, schedule_key="k", schedule_mode="debounce", longest_wait=0.001)
        self.assertEqual(bytes(s.receive(10).body), b"off")
        self.refused("bad-argument", self.c.publish, self.q, b"x", schedule_key="k", schedule_mode="perhaps")
        self.refused("bad-argument", self.c.reschedule, self.q, "k")

    def test_schedules_are_made_shown_paused_and_deleted(self):
        import json
        self.c.declare_queue(self.q)
        self.c.set_schedule(self.q, self.q, b"beat", every=0.1, missed="none", type="beat")
        s = self.c.subscribe(self.q)
        for _ in range(2):
            m = s.receive(10)
            self.assertEqual((bytes(m.body), m.properties["type"], m.headers["fastq.schedule"]), (b"beat", "beat", self.q))
            m.accept()
        self.assertTrue(self.c.pause_schedule(self.q)["paused"])
        self.c.set_schedule(self.q + "-nightly", self.q, b"x", cron="0 3 * * *", zone="Europe/Berlin", count=7, until=datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc))
        mine, theirs = self.c.schedules(), json.loads(subprocess.run([BROKER, "schedule", "list", "--json", "--socket", self.broker.socket], check=True, capture_output=True, text=True).stdout)
        moment = lambda text: text and datetime.datetime.fromisoformat(text[:19])
        for one in mine + theirs:
            for key in ("until", "next", "last"):
                one[key] = moment(one[key])
        self.assertEqual(mine, theirs)
        self.c.delete_schedule(self.q)
        self.c.delete_schedule(self.q + "-nightly")
        self.assertEqual(self.c.schedules(), [])

    def test_limits_that_queues_share(self):
        self.assertEqual(self.c.declare_limit(self.q, max_in_flight=2, rate="600/m")["flow"], {"maxInFlight": 2, "rate": "600/m"})
        self.assertEqual(self.c.change_limit(self.q, max_in_flight=1)["flow"]["maxInFlight"], 1)
        self.assertIn(self.q, [one["name"] for one in self.c.limits()])
        self.c.delete_limit(self.q)
        self.assertNotIn(self.q, [one["name"] for one in self.c.limits()])

    def test_what_was_processed_is_marked_with_its_result(self):
        self.c.declare_queue(self.q, processed_window=3600)
        self.c.publish_many(self.q, [b"a", b"b"])
        s = self.c.subscribe(self.q)
        self.assertIsNone(self.c.find_processed(self.q, "k"))
        m = s.receive(10)
        self.assertEqual(m.accept_processed("k", b"paid"), {"first": True, "result": b"paid", "late": False})
        self.assertEqual(s.receive(10).accept_processed("k", b"twice"), {"first": False, "result": b"paid", "late": False})
        self.assertEqual(self.c.find_processed(self.q, "k"), b"paid")
        self.refused("already-settled", m.accept)


class Asynchronous(WithBroker):
    def test_an_asynchronous_loop_waits_by_the_descriptor(self):
        self.c.declare_queue(self.q)

        async def run():
            s, seen = self.c.subscribe(self.q), []

            async def consume():
                async for m in s:
                    seen.append(int(bytes(m.body)))
                    m.accept(confirm="none")
                    if len(seen) == 200:
                        return

            consumer = asyncio.create_task(consume())
            for i in range(200):
                await asyncio.get_running_loop().run_in_executor(None, self.c.publish, self.q, b"%d" % i, "accepted")
            await asyncio.wait_for(consumer, 60)
            return seen

        self.assertEqual(asyncio.run(run()), list(range(200)))

    def test_two_loops_of_one_connection_both_go_on(self):
        async def run():
            counts = [0, 0]

            async def consume(index, name):
                self.c.declare_queue(name)
                async for m in self.c.subscribe(name):
                    m.accept(confirm="none")
                    counts[index] += 1
                    if counts[index] == 50:
                        return

            names = [self.q + "-0", self.q + "-1"]
            tasks = [asyncio.create_task(consume(index, name)) for index, name in enumerate(names)]
            await asyncio.sleep(0)
            other = fastq.connect(self.broker.socket)
            for name in names + names[::-1]:
                for i in range(25):
                    other.publish(name, b"x", confirm="none")
                    await asyncio.sleep(0)
            other.flush()
            await asyncio.wait_for(asyncio.gather(*tasks), 60)
            other.close()
            return counts

        self.assertEqual(asyncio.run(run()), [50, 50])


def _in_child(path, queue, inherited, pipe):
    try:
        inherited.publish(queue, b"x")
        told = "nothing"
    except fastq.Error as refused:
        told = refused.code
    with fastq.connect(path) as own:
        own.publish(queue, b"of the child")
    pipe.send(told)


def _live_dangerously(path, queue, calls, seed):
    """What a victim does until it is killed: all kinds of calls in turn."""
    c = fastq.connect(path, client_name="victim")
    s = c.subscribe(queue, credit=50)
    i = seed
    while True:
        i += 1
        turn = i % 8
        if turn == 0:
            c.publish(queue, b"x" * (100 if i % 5 else 100_000), confirm=("none", "accepted", "durable")[i % 3])
        elif turn == 1:
            c.publish_many(queue, [b"y"] * 20, confirm="written")
        elif turn == 2:
            s.accept_many(s.receive_many(10, timeout=0), confirm="none")
        elif turn == 3:
            for m in s.receive_many(3, timeout=0.001):
                m.release() if i % 3 else m.accept()
        elif turn == 4:
            c.queue(queue)
        elif turn == 5:
            with c.transaction() as t:
                t.publish(queue, b"z")
                for m in s.receive_many(1, timeout=0):
                    t.accept(m)
        elif turn == 6:
            try:
                c.request(queue, b"?", timeout=0.002)
            except fastq.Error:
                pass
        else:
            s.close()
            s = c.subscribe(queue)
        calls.value += 1


class Processes(WithBroker):
    def test_kill_9_of_a_client_inside_any_call_harms_nobody_else(self):
        fork = multiprocessing.get_context("fork")
        self.c.declare_queue(self.q)
        self.c.declare_queue("victims", max_deliveries=0, lease=3600)
        s = self.c.subscribe(self.q)
        for round in range(200):
            calls = fork.Value("Q", 0, lock=False)
            victim = fork.Process(target=_live_dangerously, args=(self.broker.socket, "victims", calls, round), daemon=True)
            victim.start()
            while calls.value < round % 17:
                pass
            victim.kill()
            victim.join()
            self.c.publish(self.q, b"%d" % round, confirm="written")
            m = s.receive(60)
            self.assertEqual(bytes(m.body), b"%d" % round)
            m.accept()
        self.assertEqual(self.c.status()["reconnects"], 0)
        while self.c.queue("victims")["inFlight"]:  # Whatever the victims held is everybody's again.
            pass

    def test_multiprocessing_works(self):
        self.c.declare_queue(self.q)
        fork = multiprocessing.get_context("fork")
        here, there = fork.Pipe()
        child = fork.Process(target=_in_child, args=(self.broker.socket, self.q, self.c, there))
        child.start()
        self.assertEqual(here.recv(), "forked")
        child.join()
        self.assertEqual(bytes(self.c.subscribe(self.q).receive(10).body), b"of the child")

    def test_threads_share_a_connection(self):
        self.c.declare_queue(self.q)
        s, seen = self.c.subscribe(self.q), []

        def consume():
            while len(seen) < 400:
                m = s.receive(timeout=10)
                seen.append(bytes(m.body))
                m.accept(confirm="none")

        threads = [threading.Thread(target=lambda base=base: [self.c.publish(self.q, b"%d" % (base + i), confirm="accepted") for i in range(100)]) for base in range(0, 400, 100)]
        consumer = threading.Thread(target=consume)
        for thread in [consumer, *threads]:
            thread.start()
        for thread in [consumer, *threads]:
            thread.join(60)
        self.assertEqual(len(set(seen)), 400)

    def test_a_closed_connection_says_so(self):
        self.c.close()
        self.refused("closed", self.c.publish, "q", b"x")
        self.c.close()

    def test_kill_9_of_a_consumer_gives_its_messages_to_others(self):
        self.c.declare_queue(self.q, lease=3600)
        self.c.publish(self.q, b"x")
        code = f"import fastq, os, signal; c = fastq.connect({self.broker.socket!r}); m = c.subscribe({self.q!r}).receive(10); os.kill(os.getpid(), signal.SIGKILL)"
        subprocess.run([sys.executable, "-c", code], check=False)
        m = self.c.subscribe(self.q).receive(10)
        self.assertEqual((bytes(m.body), m.delivery_count), (b"x", 2))


class Restarts(unittest.TestCase):
    def test_restarts_are_ridden_out_and_a_broker_that_stays_away_is_told(self):
        broker = Broker()
        c = fastq.connect(broker.socket, patience=60)
        c.declare_queue("work")
        s = c.subscribe("work")
        c.publish("work", b"held")
        m = s.receive(10)
        for how in (signal.SIGKILL, signal.SIGTERM):
            broker.kill(how)
            broker.start()
            c.publish("work", b"after")
        m.accept(confirm="durable")
        self.assertEqual([bytes(s.receive(10).body) for _ in range(2)], [b"after", b"after"])
        self.assertGreaterEqual(c.status()["reconnects"], 2)
        c.close()
        impatient = fastq.connect(broker.socket, patience=0.1)
        impatient.subscribe("work")
        broker.kill()
        for call in (lambda: impatient.publish("work", b"x"), lambda: fastq.connect(broker.socket, patience=0)):
            with self.assertRaises(fastq.Error) as caught:
                call()
            self.assertEqual(caught.exception.code, "disconnected")
        broker.start()
        impatient.flush("durable")  # It was sent again.
        impatient.close()
        broker.remove()


if __name__ == "__main__":
    unittest.main()
