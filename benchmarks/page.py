"""Draws perf-results/README.md and throughput.svg from the raw lines that measure.py keeps.

The table of targets is here, once: what is asked, which figures answer, and when it is met.
"""
import json
import pathlib
import statistics
from typing import Callable, NamedTuple

MIB = 2**20


# ---- reading


class Figures:
    """The lines of one run: by name, in the order of the rounds."""

    def __init__(self, lines):
        self.first = lines[0]
        self.by_name = {}
        for line in lines:
            self.by_name.setdefault(line["name"], []).append(line)

    def results(self, name):
        return [line["result"] for line in self.by_name.get(name, [])]

    def by_round(self, name, *path):
        """One value a round. A round that failed, or whose program does not print the value, is left out."""
        values = {}
        for line in self.by_name.get(name, []):
            value = line["result"]
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                values[line["round"]] = value
        return values

    def values(self, name, *path):
        return list(self.by_round(name, *path).values())

    def command(self, name):
        return self.by_name[name][0]["command"] if name in self.by_name else ""


def read_runs(results):
    runs = []
    for path in sorted((results / "raw").glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if lines:
            runs.append(Figures(lines))
    return runs


def ratios(over, under):
    """Within each round that has both."""
    return [over[n] / under[n] for n in over if under.get(n)]


# ---- targets


class Target(NamedTuple):
    asked: str
    name: str  # of the measurement whose command is shown
    values: Callable[[Figures], list]
    show: Callable[[float], str]
    met: Callable[[float], bool]


def millions(value):
    return f"{value / 1e6:.2f} M/s"


def percent(value):
    return f"{100 * value:.0f} %"


def times(value):
    return f"{value:.2f} x"


def rate(name):
    return lambda figures: figures.values(name, "messagesPerSecond")


def rate_ratio(over, under):
    return lambda figures: ratios(figures.by_round(over, "messagesPerSecond"), figures.by_round(under, "messagesPerSecond"))


def latency_ratio(name, floor):
    return lambda figures: ratios(figures.by_round(name, "latencyMicroseconds", "p50"), figures.by_round(floor, "latencyMicroseconds", "p50"))


YIELD_ROW = "through a broker, yield 100 times, then eventfd"
AT_ONCE_ROW = "eventfd at once through a broker"
SLEEP_ROW = "eventfd at once through a broker, rested 1 ms"

TARGETS = [
    Target("written, 100 B: at least 5 million messages a second", "fastq written 100 B", rate("fastq written 100 B"), millions, lambda v: v >= 5e6),
    Target("written, 100 B: at least 20 % of the bare pipeline in C", "fastq written 100 B", rate_ratio("fastq written 100 B", "pipe B 100 B"), percent, lambda v: v >= 0.2),
    Target("durable, 100 B: at least 60 % of FastQ's own written", "fastq durable 100 B", rate_ratio("fastq durable 100 B", "fastq written 100 B"), percent, lambda v: v >= 0.6),
    Target("written, 1 KiB: at least 1.3 million messages a second", "fastq written 1024 B", rate("fastq written 1024 B"), millions, lambda v: v >= 1.3e6),
    Target("round trip, recent traffic: p50 at most twice the floor's", "fastq latency", latency_ratio("fastq latency", YIELD_ROW), times, lambda v: v <= 2),
    Target("round trip, from sleep: p50 at most 1.5 times the floor's that sleeps at once", "fastq latency, rested 1 ms", latency_ratio("fastq latency, rested 1 ms", AT_ONCE_ROW), times, lambda v: v <= 1.5),
    Target("the same, against a floor that rests 1 ms, too", "fastq latency, rested 1 ms", latency_ratio("fastq latency, rested 1 ms", SLEEP_ROW), times, lambda v: v <= 1.5),
    Target("idle broker: below 30 MiB resident", "idle", lambda f: f.values("idle", "residentBytes"), lambda v: f"{v / MIB:.1f} MiB", lambda v: v < 30 * MIB),
    Target("idle broker: 0 % CPU", "idle", lambda f: f.values("idle", "cpuPercent"), lambda v: f"{v:.1f} %", lambda v: v == 0),
    Target("ready within 100 ms on an empty directory", "idle", lambda f: f.values("idle", "readyMilliseconds"), lambda v: f"{v:.0f} ms", lambda v: v <= 100),
    Target("a queued message: at most 24 bytes resident", "backlog", lambda f: f.values("backlog", "residentBytesPerMessage"), lambda v: f"{v:.1f} B", lambda v: v <= 24),
    Target("restart with that backlog: serving within 5 s", "backlog", lambda f: f.values("backlog", "restartMilliseconds"), lambda v: f"{v / 1000:.2f} s", lambda v: v <= 5000),
    Target("no managed allocation per message", "fastq written 100 B", lambda f: f.values("fastq written 100 B", "allocatedBytesPerMessage"), lambda v: f"{v:.3f} B", lambda v: v < 0.01),
]


def spread(values, show):
    if not values:
        return "-"
    middle = show(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} [{show(min(values))} .. {show(max(values))}]"


def verdict(figures, target):
    if any("error" in result for result in figures.results(target.name)):
        return "**failed**"
    if any(result.get("verified") is False for result in figures.results(target.name)):
        return "**not verified**"
    values = target.values(figures)
    if not values:
        return "not measured"
    return "met" if target.met(statistics.median(values)) else "**missed**"


# ---- the page


def in_short(result):
    """One measurement in a few words, for the terminal."""
    if "error" in result:
        return f"FAILED: {result['error']}"
    parts = []
    if "messagesPerSecond" in result and result.get("scenario") != "latency":
        parts.append(millions(result["messagesPerSecond"]))
    if isinstance(result.get("latencyMicroseconds"), dict):
        parts.append(f"p50 {result['latencyMicroseconds']['p50']:.1f} us")
    for key in ("readyMilliseconds", "residentBytes", "residentBytesPerMessage", "restartMilliseconds"):
        if key in result:
            parts.append(f"{key} {result[key]:.1f}")
    if result.get("verified") is False:
        parts.append("NOT VERIFIED")
    return ", ".join(parts)


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def targets_part(figures):
    rows = [[t.asked, spread(t.values(figures), t.show), verdict(figures, t), f"`{figures.command(t.name)}`"] for t in TARGETS]
    return ["## Targets", "", *table(["target", "measured: median [least .. most]", "verdict", "command"], rows), ""]


def cpu_of_floor(figures, name, role):
    return spread(figures.values(name, "cpuNs", role), lambda v: f"{v:.0f}")


def cpu_of_fastq(figures, name, role):
    return spread(ratios(figures.by_round(name, "cpuSeconds", role), figures.by_round(name, "count")), lambda v: f"{1e9 * v:.0f}")


def throughput_part(figures):
    rows = []
    for name in ("pipe B 100 B", "fastq written 100 B", "pipe C 100 B", "fastq durable 100 B", "pipe B 1024 B", "pipe C 1024 B", "fastq written 1024 B"):
        if name.startswith("pipe"):
            cpu = [cpu_of_floor(figures, name, role) for role in ("producer", "broker", "consumer")]
        else:
            cpu = [cpu_of_fastq(figures, name, role) for role in ("producers", "broker", "consumers")]
        rows.append([name, spread(figures.values(name, "messagesPerSecond"), millions), *cpu])
    text = "`pipe B` (written) and `pipe C` (durable) are the floor: three processes in C that do only what cannot be left out. Whatever is written is synced soon after, so at 1 KiB the disk bounds both levels: compare with `pipe C`."
    return ["## Throughput", "", "![messages a second](throughput.svg)", "", text, "", *table(["", "messages a second", "CPU ns a message: producer", "broker", "consumer"], rows), ""]


def latency_part(figures):
    def row(label, name, key):
        return [label, *(spread(figures.values(name, key, p), lambda v: f"{v:.1f}") for p in ("p50", "p99", "p999"))]

    rows = [row(name, name, "latencyMicroseconds") for name in ("direct yield 100", YIELD_ROW, AT_ONCE_ROW, SLEEP_ROW)]
    rows.append(row("**fastq**, written, recent traffic", "fastq latency", "latencyMicroseconds"))
    rows.append(row("**fastq**, written, rested 1 ms", "fastq latency, rested 1 ms", "latencyMicroseconds"))
    rows += [row(f"{name} (pwrite and fdatasync)", name, "latencyMicroseconds") for name in ("sync 4 KiB", "sync 64 KiB", "sync 256 KiB")]
    return ["## Round trips and syncs, µs", "", *table(["", "p50", "p99", "p99.9"], rows), ""]


def history_part(runs):
    rows = []
    for figures in reversed(runs):
        rows.append(
            [
                figures.first["date"],
                f"`{figures.first['commit']}`" + (" (quick)" if figures.first["quick"] else ""),
                f"{figures.first['machine']['cpu']}, {figures.first['machine']['cores']} cores",
                *(spread(rate(name)(figures), millions) for name in ("fastq written 100 B", "fastq durable 100 B")),
                spread(rate_ratio("fastq written 100 B", "pipe B 100 B")(figures), percent),
            ]
        )
    return ["## All runs", "", *table(["date", "commit", "machine", "written 100 B", "durable 100 B", "written, of pipe B"], rows), ""]


def chart(figures):
    """Bars in pairs, the floor above FastQ; the thin line spans the least and the most."""
    pairs = [("written 100 B", "pipe B 100 B", "fastq written 100 B"), ("durable 100 B", "pipe C 100 B", "fastq durable 100 B"), ("written 1 KiB", "pipe B 1024 B", "fastq written 1024 B")]
    most = max((value for _, *names in pairs for name in names for value in rate(name)(figures)), default=1)
    left, width, bar, gap = 120, 520, 18, 22
    height = 20 + len(pairs) * (2 * bar + gap) + 10

    def bar_of(y, label, name, colour):
        values = rate(name)(figures)
        if not values:
            return [f'<text x="{left + 6}" y="{y + 13}">{label}: not measured</text>']
        scale = width / most
        middle = statistics.median(values) * scale
        return [
            f'<rect x="{left}" y="{y}" width="{middle:.1f}" height="{bar}" fill="{colour}"/>',
            f'<line x1="{left + min(values) * scale:.1f}" x2="{left + max(values) * scale:.1f}" y1="{y + bar / 2}" y2="{y + bar / 2}" stroke="#222"/>',
            f'<text x="{left + max(values) * scale + 6:.1f}" y="{y + 13}">{label} {millions(statistics.median(values))}</text>',
        ]

    parts = []
    for i, (title, floor, fastq) in enumerate(pairs):
        y = 20 + i * (2 * bar + gap)
        parts.append(f'<text x="{left - 8}" y="{y + bar + 5}" text-anchor="end">{title}</text>')
        parts += bar_of(y, "floor", floor, "#b8c4d0") + bar_of(y + bar, "fastq", fastq, "#2f6fb0")
    size = f'width="{left + width + 150}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13" fill="#222">',
            "<title>Messages a second: the floor in C, and FastQ</title>",
            f'<rect {size} fill="#fff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


HEAD = ["# Speed and memory", "", "Drawn by `./build.sh bench` from the lines under `raw/`; `benchmarks/README.md` says what is measured and how.", ""]


def draw(results: pathlib.Path):
    """Writes the page and its chart; returns the targets as text for the terminal."""
    results.mkdir(parents=True, exist_ok=True)
    runs = read_runs(results)
    if not runs:
        (results / "README.md").write_text("\n".join([*HEAD, "No run is kept here yet.", ""]), encoding="utf-8")
        return "no run is kept yet"
    # A quick run shows that all works; its figures stand on the page only while there is nothing better.
    newest = [run for run in runs if not run.first["quick"]][-1:] or runs[-1:]
    figures = newest[0]
    machine = figures.first["machine"]
    card = (
        f"Newest{'' if figures.first['quick'] else ' full'} run: {figures.first['date']}, commit `{figures.first['commit']}`, {figures.first['rounds']} rounds"
        f"{', quick: a tenth of the messages' if figures.first['quick'] else ''}; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memoryGiB']} GiB, kernel {machine['kernel']}, {machine['fileSystem']}."
    )
    lines = [*HEAD, card, "", *targets_part(figures), *throughput_part(figures), *latency_part(figures), *history_part(runs)]
    (results / "README.md").write_text("\n".join(lines), encoding="utf-8")
    (results / "throughput.svg").write_text(chart(figures), encoding="utf-8")
    return "\n".join(f"{t.asked:60} {spread(t.values(runs[-1]), t.show):40} {verdict(runs[-1], t).strip('*')}" for t in TARGETS)
