"""kill -9 of clients at random moments inside any call harms nobody else: kills.py BROKER WALK [ROUNDS] [SEED].

Victims in C (WALK --victim) and in Python take turns; each counts its calls in memory that this process sees, and dies after a number of them and
a moment more. Afterwards: another client's messages have all come, once and in order, without a reconnect; the broker is the same process; its
sessions, rings and descriptors are what they were, and the journal has no more slots than it wants. FASTQ_LIB and PYTHONPATH lead to the library and the binding.
"""

import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import fastq

MOST_IDLE_SLOTS = 5  # A journal in which nothing lives: one is written, one is next, one is free, two are those that the last two snapshots need.
EACH = 5  # Messages of the bystander's a round.
PATIENCE_SECONDS = 60


class Broker:
    def __init__(self, binary):
        self.folder = tempfile.mkdtemp(prefix="fastq-kills-")
        self.socket = os.path.join(self.folder, "s")
        self.process = subprocess.Popen([binary, "serve", "--data", os.path.join(self.folder, "data"), "--socket", self.socket], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout.readline().startswith(b"ready"), "the broker does not start"

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def rings(self):
        with open(f"/proc/{self.process.pid}/maps", encoding="utf-8") as maps:
            return sum("memfd:" in line for line in maps)

    def remove(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


def live_dangerously(socket, file, seed):
    """A victim: all that the binding does, in the order that a seed gives, until somebody kills it."""
    dice = random.Random(seed)
    with open(file, "r+b") as opened:
        counter = mmap.mmap(opened.fileno(), 8)
    c = fastq.connect(socket)
    c.declare_queue("python", lease=3600.0, max_deliveries=0)
    s = c.subscribe("python", credit=50)
    acts = [
        lambda: c.publish("python", b"x" * dice.choice([1, 100, 100000]), confirm=dice.choice(["none", "accepted", "durable"])),
        lambda: c.publish_many("python", [b"y"] * 50, confirm="written"),
        lambda: [m.accept(confirm="none") for m in s.receive_many(20, 0)],
        lambda: [m.release(count=False, confirm="none") for m in s.receive_many(5, 0.001)],
        lambda: s.receive(timeout=0.001),
        lambda: c.flush("durable"),
        lambda: c.queue("python"),
        lambda: c.browse("python", max=10),
        lambda: c.stats(),
        lambda: c.purge("python"),
        lambda: c.subscribe("python").close(),
        lambda: fastq.connect(socket).close(),
    ]
    while True:
        try:
            dice.choice(acts)()
        except fastq.Error:
            pass  # Another victim's messages, another one's purge.
        counter[:] = (int.from_bytes(counter[:], "little") + 1).to_bytes(8, "little")


def wait_until(what, holds):
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"    not so after {PATIENCE_SECONDS} s: {what()}")


def kill_one(command, counter, dice):
    """Starts a victim and kills it after some calls and a moment, counted in looks, not in time."""
    counter[:] = bytes(8)
    after, moment = dice.randrange(1, 60), dice.randrange(3000)
    victim = subprocess.Popen(command)
    wait_until(lambda: f"the victim {command} makes calls", lambda: int.from_bytes(counter[:], "little") >= after or victim.poll() is not None)
    for _ in range(moment):
        counter[:]
    assert victim.poll() is None, f"the victim ended by itself: {command}, {victim.returncode}"
    victim.send_signal(signal.SIGKILL)
    victim.wait()


def run(broker, walk, rounds, seed):
    dice = random.Random(seed)
    file = os.path.join(broker.folder, "counter")
    with open(file, "w+b") as opened:
        opened.truncate(8)
        counter = mmap.mmap(opened.fileno(), 8)
    c = fastq.connect(broker.socket, client_name="bystander")
    c.declare_queue("bystander")
    s = c.subscribe("bystander")
    c.publish("bystander", b"first")
    s.receive(timeout=PATIENCE_SECONDS).accept()  # From here on the broker holds the descriptors that consumers get.
    before, descriptors = (c.stats()["sessions"], broker.rings()), broker.descriptors() - c.stats()["journal"]["slots"]
    sent = came = 0
    for one in range(rounds):
        victim_seed = str(dice.randrange(1 << 30))
        command = [walk, "--victim"] if one % 2 == 0 else [sys.executable, __file__, "--victim"]
        for _ in range(EACH):  # In flight while the victim lives.
            c.publish("bystander", b"%d" % sent, confirm="none")
            sent += 1
        kill_one([*command, broker.socket, file, victim_seed], counter, dice)
        while came < sent:
            m = s.receive(timeout=PATIENCE_SECONDS)
            assert m is not None and bytes(m.body) == b"%d" % came and m.delivery_count == 1, f"round {one}, victim's seed {victim_seed}: message {came} is {m and bytes(m.body)}"
            m.accept()
            came += 1
        assert broker.process.poll() is None, f"round {one}, victim's seed {victim_seed}: the broker is dead"
    assert c.status()["reconnects"] == 0, "the bystander lost its connection"
    sessions = lambda: (c.stats()["sessions"], broker.rings())
    wait_until(lambda: f"sessions and rings are {before} again: {sessions()}", lambda: sessions() == before)
    for queue in [one["name"] for one in c.queues() if one["name"] != "bystander"]:
        wait_until(lambda: f"nothing of {queue} is in hand: {c.queue(queue)}", lambda: c.queue(queue)["inFlight"] == 0)
        c.delete_queue(queue)
    slots = lambda: c.stats()["journal"]["slots"]
    wait_until(lambda: f"the journal has {slots()} slots, no more than {MOST_IDLE_SLOTS}", lambda: slots() <= MOST_IDLE_SLOTS)
    rest = lambda: broker.descriptors() - slots()  # Each slot has one.
    wait_until(lambda: f"the broker's descriptors, but for the slots', are {descriptors} again: {rest()}", lambda: rest() == descriptors)
    c.close()
    return sent


def main():
    if len(sys.argv) == 5 and sys.argv[1] == "--victim":
        live_dangerously(*sys.argv[2:])
    binary, walk = sys.argv[1], sys.argv[2]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 200
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 30)
    print(f"    {rounds} rounds, seed {seed}", flush=True)
    broker = Broker(binary)
    try:
        print(f"    {run(broker, walk, rounds, seed)} messages of the bystander's came, each once")
    finally:
        broker.remove()


main()
