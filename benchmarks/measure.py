#!/usr/bin/env python3
"""Measures FastQ against the floor of this machine, keeps the figures, and draws the page.

    floor programs  \
                     > alternated, so that noise hits both --> perf-results/raw/RUN.jsonl --> perf-results/README.md, throughput.svg
    fastq bench ... /

A target is judged by the median over the rounds; a ratio is taken within each round first. A run keeps all that it saw in one file, a
measurement a line, each with machine, commit and command. Use: ./build.sh bench [--quick]; see --help for the rest.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True  # leaves no folder beside the sources
import page

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLOOR = ROOT / "artifacts" / "floor"
COMMAND_LIMIT_SECONDS = 300
IDLE_SECONDS = 3


class Failed(Exception):
    """A command that did not do what it was asked; the text says which and how."""


# ---- commands


def run_json(command, folder):
    """The JSON objects that the command prints, a line each."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    environment.pop("FASTQ_SOCKET", None)
    try:
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end within {COMMAND_LIMIT_SECONDS} s")
    if done.returncode != 0:
        raise Failed(f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    try:
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")] or [json.loads(done.stdout)]
    except ValueError:
        raise Failed(f"no JSON: {done.stdout.strip()[:200]}")


def floor_commands(small):
    """Name and command of each floor program; the latency and sync programs name their own rows."""
    def pipe(mode, size, count):
        return f"pipe {mode} {size} B", [FLOOR / "floor_pipe", mode, "-s", size, "-n", count // small, "-d", "."]

    return [
        pipe("B", 100, 10_000_000),
        pipe("C", 100, 5_000_000),
        pipe("B", 1024, 2_000_000),
        pipe("C", 1024, 1_000_000),
        (None, [FLOOR / "floor_latency", "-n", 30_000 // small]),
        (None, [FLOOR / "floor_sync", ".", "-t", 1 / small]),
    ]


def bench_commands(binary, small):
    def bench(name, *options):
        return name, [binary, "bench", *options, "--json"]

    return [
        bench("fastq written 100 B", "--size", 100, "--count", 10_000_000 // small, "--confirm", "written"),
        bench("fastq durable 100 B", "--size", 100, "--count", 5_000_000 // small, "--confirm", "durable"),
        bench("fastq written 1024 B", "--size", 1024, "--count", 2_000_000 // small, "--confirm", "written"),
        bench("fastq latency", "--scenario", "latency", "--size", 100, "--count", 30_000 // small, "--confirm", "written"),
        bench("fastq latency, rested 1 ms", "--scenario", "latency", "--pause", "1ms", "--size", 100, "--count", 3_000 // small, "--confirm", "written"),
    ]


def alternated(floor, benches):
    """Floor and broker in turn, so that a loud minute spoils neither alone."""
    for i in range(max(len(floor), len(benches))):
        yield from floor[i : i + 1]
        yield from benches[i : i + 1]


# ---- a broker of our own


class Broker:
    """`fastq serve` in a folder; start() returns the milliseconds until it said ready."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.process = binary, folder, None

    def start(self):
        before = time.monotonic()
        # Short relative names: a socket's path may not be long.
        self.process = subprocess.Popen(
            [self.binary, "serve", "--data", "data", "--socket", "s"], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        limit = threading.Timer(60, self.process.kill)
        limit.start()
        line = self.process.stdout.readline()
        limit.cancel()
        if not line.startswith("ready"):
            self.stop(signal.SIGKILL)
            raise Failed(f"serve said {line!r} instead of ready: {self.process.stderr.read().strip()[-300:]}")
        return (time.monotonic() - before) * 1000

    def memory(self):
        """Resident bytes: in all, and without pages of files, which the kernel may drop at any time."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        of = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(("VmRSS", "RssAnon", "RssShmem"))}
        return of["VmRSS"], of["RssAnon"] + of["RssShmem"]

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, *arguments):
        return run_json([self.binary, *map(str, arguments), "--socket", "s", "--json"], self.folder)[0]

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure_idle(binary, folder):
    broker = Broker(binary, folder)
    ready = broker.start()
    try:
        time.sleep(IDLE_SECONDS)  # It makes its second slot ready first; then it is idle.
        before = broker.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        used = broker.cpu_seconds() - before
        resident, _ = broker.memory()
    finally:
        broker.stop()
    return {"readyMilliseconds": ready, "residentBytes": resident, "cpuPercent": 100 * used / IDLE_SECONDS}


def measure_backlog(binary, folder, count):
    """Queues `count` messages that nobody takes, weighs them, kills the broker and starts it again."""
    broker = Broker(binary, folder)
    broker.start()
    try:
        broker.ask("queue", "create", "backlog")
        _, empty = broker.memory()
        sent = broker.ask("publish", "backlog", "--body", "x" * 100, "--count", count)
        resident, full = broker.memory()
    finally:
        broker.stop(signal.SIGKILL)
    restart = broker.start()
    try:
        found = broker.ask("queue", "show", "backlog")["messages"]
    finally:
        broker.stop()
    return {
        "count": count,
        "residentBytes": resident,
        "residentBytesPerMessage": (full - empty) / count,
        "restartMilliseconds": restart,
        "verified": sent["confirmed"] == count and found == count,
    }


# ---- a run


def git(*arguments):
    done = subprocess.run(["git", "-c", f"safe.directory={ROOT}", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def file_system(folder):
    mounts = (line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines())
    inside = [m for m in mounts if folder == pathlib.Path(m[1]) or pathlib.Path(m[1]) in folder.parents]
    return max(inside, key=lambda m: len(m[1]))[2] if inside else "unknown"


def machine_card(folder):
    cpu = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memoryGiB": round(pages / 2**30, 1),
        "kernel": platform.release(),
        "fileSystem": file_system(folder),
    }


class Run:
    """One run: what it measures goes to its file at once, so that an interrupted run keeps what it saw."""

    def __init__(self, results, folder, rounds, quick):
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
        self.common = {
            "date": now.isoformat().replace("+00:00", "Z"),
            "commit": commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else ""),
            "rounds": rounds,
            "quick": quick,
            "machine": machine_card(folder),
        }
        raw = results / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        self.path = raw / f"{now:%Y-%m-%d-%H%M%S}-{commit}.jsonl"
        self.failures = 0

    def keep(self, name, round_number, command, result):
        line = {**self.common, "name": name, "round": round_number, "command": command, "result": result}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        bad = "error" in result or result.get("verified") is False
        self.failures += bad
        print(f"round {round_number}: {name}: {page.in_short(result)}", file=sys.stderr, flush=True)

    def measure(self, name, round_number, command, work):
        try:
            results = work()
        except (Failed, OSError, KeyError) as error:
            results = [{"error": f"{type(error).__name__}: {error}"}]
        for result in results:
            # The floor's latency and sync programs print several rows, each with its own name.
            self.keep(name or result.get("name", "floor"), round_number, command, result)


def shown(command):
    """The command as a reader would type it in the root of the repository."""
    return " ".join(str(pathlib.Path(part).relative_to(ROOT)) if str(part).startswith(f"{ROOT}/") else str(part) for part in command)


def measure_all(run, binary, folder, rounds, small):
    commands = list(alternated(floor_commands(small), bench_commands(binary, small)))
    for number in range(1, rounds + 1):
        for name, command in commands:
            run.measure(name, number, shown(command), lambda: run_json([str(part) for part in command], folder))
        in_new_folder(run, "idle", number, f"fastq serve, {IDLE_SECONDS} s without a client", folder, lambda inside: measure_idle(binary, inside))
    count = 10_000_000 // small
    in_new_folder(run, "backlog", 1, f"fastq publish backlog --count {count}; kill -9; fastq serve", folder, lambda inside: measure_backlog(binary, inside, count))


def in_new_folder(run, name, number, command, folder, work):
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        run.measure(name, number, command, lambda: [work(pathlib.Path(inside))])


def main():
    options = argparse.ArgumentParser(prog="./build.sh bench", description="Measures FastQ against the floor of this machine and draws perf-results/README.md.")
    options.add_argument("--quick", action="store_true", help="one round with a tenth of the messages: shows that all works, not how fast it is")
    options.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds to take the median of (5)")
    options.add_argument("--page", action="store_true", help="measure nothing, draw the page from what is kept")
    options.add_argument("--binary", type=pathlib.Path, default=ROOT / "artifacts/bin/fastq", help="the fastq to measure")
    options.add_argument("--data", type=pathlib.Path, default=ROOT / "artifacts/bench", help="where data lies while measuring: choose the disk")
    options.add_argument("--results", type=pathlib.Path, default=ROOT / "perf-results", help="where raw figures and the page go")
    chosen = options.parse_args()
    if chosen.rounds < 1:
        options.error("--rounds: from 1 on")

    failures = 0
    if not chosen.page:
        binary, folder = chosen.binary.resolve(), chosen.data.resolve()
        if not os.access(binary, os.X_OK):
            options.error(f"no program {binary}: ./build.sh publish makes it")
        folder.mkdir(parents=True, exist_ok=True)
        rounds = 1 if chosen.quick else chosen.rounds
        run = Run(chosen.results, folder, rounds, chosen.quick)
        measure_all(run, binary, folder, rounds, small=10 if chosen.quick else 1)
        failures = run.failures
        print(f"kept in {run.path}", file=sys.stderr)

    print(page.draw(chosen.results))
    if failures:
        print(f"{failures} measurements failed or were not verified", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
