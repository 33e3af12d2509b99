#!/usr/bin/env python3
"""Runs what proves FastQ's promises for as long as one likes, keeps what came of it, and draws perf-results/verification.md.

    simulate, simulate --lying, planted, coverage, kill  -->  perf-results/verification/PART.json  -->  perf-results/verification.md

Each part keeps its newest run only, with commit, machine and command. Use: ./build.sh verify [PART...] [--minutes M]; see --help for the rest.
"""
import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # leaves no folder beside the sources
import measure

ROOT = measure.ROOT
NOT_TESTED = """\
- **Real hardware that loses power.** A power loss is simulated (any subset of what was not synced, by sectors of 512 bytes), and imitated on a log of what the
  published binary really wrote and synced (`EndToEnd.PowerLossTests`). No machine was unplugged, and a disk that acknowledges a flush without doing it is known from the
  simulation only.
- **Other kernels, file systems and machines** than those that stand above: one kernel, ext4 and tmpfs, two cores.
- **Weak memory orders.** All runs were on x86-64; the rings' fences are argued and tested by permitted outcomes, but not on ARM.
- **Two threads that race inside the broker or a client.** A simulated world has one thread. Races are left to the ring tests, the kill rounds and the suites, which see only those that
  happen.
- **What does not exist yet**: the State table of the README names it.
"""


class Part:
    """One kind of proof: the command behind it, and how long it may take."""

    def __init__(self, name, command, environment=None):
        self.name, self.command, self.environment = name, command, environment or {}

    def run(self, results):
        shown = " ".join(["./build.sh", *self.command])
        print(f"--- {self.name}: {shown}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "result.json"
            command = [str(ROOT / "build.sh"), *self.command] + ([] if self.environment else ["--json", str(file)])
            environment = {**os.environ, **{name: str(file) for name in self.environment}}
            began = time.monotonic()
            code = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL).returncode
            result = json.loads(file.read_text()) if file.exists() else None
        if result is None:
            print(f"{self.name}: it ended with {code} and left no result", file=sys.stderr)
            return False
        measure_of = {
            "date": datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat().replace("+00:00", "Z"),
            "commit": measure.git("rev-parse", "--short=12", "HEAD") + ("+changes" if measure.git("status", "--porcelain", "--untracked-files=no") else ""),
            "machine": measure.machine_card(ROOT),
            "command": shown,
            "exitCode": code,
            "tookSeconds": round(time.monotonic() - began),
            "result": result,
        }
        folder = results / "verification"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(measure_of, indent=1) + "\n")
        return code == 0


def parts_of(options):
    minutes = f"{options.minutes:g}"
    return [
        Part("simulation", ["simulate", "--minutes", minutes]),
        Part("lying", ["simulate", "--lying", "--minutes", str(max(1, round(options.minutes / 6)))]),
        Part("planted", ["planted", "--seeds", str(options.seeds)]),
        Part("coverage", ["coverage"]),
        Part("kills", ["kill", "--rounds", str(options.rounds), "--seed", str(options.seed)], ["FASTQ_KILL_JSON"]),
    ]


# ---- the page


def number(value):
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


def page_of(results, found):
    kept = {file.stem: json.loads(file.read_text()) for file in sorted((results / "verification").glob("*.json"))}
    lines = ["# What was verified", "", "Drawn by `./build.sh verify` from `verification/`, which holds the newest run of each part. What each part is: `tests/README.md`.", ""]
    lines += runs(kept)
    lines += worlds(kept)
    lines += faults(kept)
    lines += planted(kept)
    lines += coverage(kept)
    lines += ["## What the simulation found", "", "Each broke a promise in the world of its seed once, was mended, and runs with every test (`tests/seeds.txt`); those with the bugs that were found otherwise are planted, too (above).", "", "| seed | disks | what it found |", "|---|---|---|"]
    lines += [f"| {seed} | {'lie' if lies else 'honest'} | {what} |" for seed, lies, what in found]
    lines += ["", "## What was not tested", "", NOT_TESTED]
    return "\n".join(lines)


def runs(kept):
    lines = ["| part | came to | commit | day | took | command |", "|---|---|---|---|---|---|"]
    for name, run in kept.items():
        result = run["result"]
        if name in ("simulation", "lying"):
            says = f"{number(result['seeds'])} worlds, **{len(result['broken'])} broken**"
        elif name == "planted":
            says = f"{len(result['bugs'])} bugs, **{sum(bug['by'] is None for bug in result['bugs'])} survive**; {result['controls'].splitlines()[0]}"
        elif name == "coverage":
            says = ", ".join(f"{room['room']} {100 * room['reached'] / room['branches']:.1f} %" for room in result["rooms"])
        else:
            says = f"{number(result['rounds'])} rounds from seed {result['seed']}: {number(result['brokers'])} brokers, {number(result['producers'])} producers, {number(result['consumers'])} consumers killed; {number(result['messages'])} messages, {number(result['redelivered'])} delivered again, **{'0' if run['exitCode'] == 0 else 'SOME'} lost or back from the dead**"
        lines.append(f"| {name} | {says} | `{run['commit']}` | {run['date'][:10]} | {run['tookSeconds'] / 60:.0f} min | `{run['command']}` |")
    machine = next(iter(kept.values()))["machine"] if kept else None
    return lines + ([] if machine is None else ["", f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memoryGiB']} GiB, kernel {machine['kernel']}, {machine['fileSystem']}."]) + [""]


def worlds(kept):
    columns = [name for name in ("simulation", "lying") if name in kept]
    rows = [("worlds", "seeds"), ("simulated hours", "simulatedHours"), ("messages sent and checked", "messages"), ("deliveries", "deliveries"), ("crashes", "crashes"), ("starts of a broker, each with its recovery", "starts")]
    lines = ["## Simulated worlds", "", "| |" + "".join(f" {'disks may lie' if name == 'lying' else 'honest disks'} |" for name in columns), "|---|" + "---|" * len(columns)]
    lines += [f"| {label} |" + "".join(f" {number(kept[name]['result'][key])} |" for name in columns) for label, key in rows]
    broken = [(name, failure) for name in columns for failure in kept[name]["result"]["broken"]]
    lines += [""] + [f"Broken: seed {failure['seed']} ({name}): {failure['violation']}" + "\n" for name, failure in broken]
    return lines


def faults(kept):
    columns = [name for name in ("simulation", "lying") if name in kept]
    kinds = sorted({kind for name in columns for kind in kept[name]["result"]["injected"]})
    lines = ["## Faults, by kind", "", "| fault |" + "".join(f" {'disks may lie' if name == 'lying' else 'honest disks'} |" for name in columns), "|---|" + "---|" * len(columns)]
    return lines + [f"| {kind} |" + "".join(f" {number(kept[name]['result']['injected'].get(kind, 0))} |" for name in columns) for kind in kinds] + [""]


def planted(kept):
    if "planted" not in kept:
        return []
    result = kept["planted"]["result"]
    seeds = [bug["seeds"] for bug in result["bugs"] if bug["seeds"]]
    lines = ["## Planted bugs", "", f"{len(result['bugs'])} planted, {sum(bug['by'] is not None for bug in result['bugs'])} caught; those that the simulation catches took a median of {statistics.median(seeds) if seeds else 0:g} worlds, at most {max(seeds, default=0)} of a budget of {number(result['budget'])}.", "", *result["controls"].splitlines(), "", "| bug | what it breaks | caught by | worlds |", "|---|---|---|---|"]
    return lines + [f"| {bug['name']} | {bug['breaks']} | {bug['by'] or '**nobody**'} | {bug['seeds'] or ''} |" for bug in result["bugs"]] + [""]


def coverage(kept):
    if "coverage" not in kept:
        return []
    result = kept["coverage"]["result"]
    lines = ["## Branches", "", f"By {result['seeds']} worlds of the simulation alone, and with the suites of both rooms. `tests/coverage.md` gives the reason of each branch that is not reached.", "", "| room | branches | by the simulation | in all |", "|---|---|---|---|"]
    return lines + [f"| {room['room']} | {number(room['branches'])} | {100 * room['bySimulation'] / room['branches']:.1f} % | {100 * room['reached'] / room['branches']:.1f} % |" for room in result["rooms"]] + [""]


def found_seeds(file):
    """tests/seeds.txt: seed, whether its disk may lie, what it found."""
    for line in file.read_text().splitlines():
        if line and not line.startswith("#"):
            words = line.split(" ", 2) if line.startswith("lying ") else ["", *line.split(" ", 1)]
            yield words[1], words[0] == "lying", words[2]


def main():
    parser = argparse.ArgumentParser(prog="./build.sh verify", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="simulation, lying, planted, coverage, kills; all of them without a word; page only draws")
    parser.add_argument("--minutes", type=float, default=60, help="of simulation; a sixth of it with disks that lie (60)")
    parser.add_argument("--seeds", type=int, default=10_000, help="worlds that a planted bug may survive (10000)")
    parser.add_argument("--rounds", type=int, default=1000, help="of kill -9 (1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the kill rounds (1)")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "perf-results", help="folder for results and page")
    options = parser.parse_args()
    parts = {part.name: part for part in parts_of(options)}
    unknown = [name for name in options.parts if name not in parts and name != "page"]
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}: {', '.join(parts)}, page")
    good = all([parts[name].run(options.results) for name in (options.parts or parts) if name != "page"])
    page = options.results / "verification.md"
    page.write_text(page_of(options.results, found_seeds(ROOT / "tests" / "seeds.txt")))
    print(f"{page}: drawn", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
