"""What every benchmark shares: timed processes, medians with their range, the machine, and where results go."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
# The nearest folder `shared` on the way up.
SHARED = next(
    (found for parent in CHECKOUT.parents if (found := parent / "shared" / "abid-224").is_dir()),
    Path("../shared/abid-224"),
).parent
SMALL, ORIGINALS = SHARED / "abid-224", SHARED / "abid"


@dataclass(frozen=True)
class Spent:
    """What some work took: seconds by the clock and of processors, and the greatest memory of its process."""

    wall_s: float
    cpu_s: float
    peak_mb: float = math.nan


@dataclass(frozen=True)
class Ratio:
    """A figure that answers the benchmark's question, its median and range over repeats."""

    what: str
    median: float
    low: float
    high: float
    goal: str = ""

    @classmethod
    def of(cls, what: str, values: Sequence[float], goal: str = "") -> Ratio:
        return cls(what, statistics.median(values), min(values), max(values), goal)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours divided by theirs, repeat by repeat, so that what both suffered cancels out."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def spread(values: Sequence[float], shape: str = ",.1f") -> str:
    """Median and range, as in "5.1 (4.9 to 5.3)"."""
    middle, low, high = (format(value, shape) for value in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def timed(work: Callable[[], object]) -> Spent:
    """Runs something in this process."""
    wall_s, cpu_s = time.monotonic(), time.process_time()
    work()
    return Spent(time.monotonic() - wall_s, time.process_time() - cpu_s)


def run_process(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[Spent, str]:
    """Runs a process to its end: what it took, with all that it had waited for, and what it printed.

    Raises:
        SystemExit: If it fails; with the end of what it said.
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        began = time.monotonic()
        with subprocess.Popen(command, env=env, cwd=cwd, stdout=said, stderr=complained) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - began
        said.seek(0)
        complained.seek(0)
        if process.returncode:
            raise SystemExit(f"{command}: exit {process.returncode}.\n{complained.read()[-3000:]}")
        return Spent(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024), said.read()


def machine() -> dict[str, Any]:
    """Where and when something is measured."""
    processor = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory_kb = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_kb / 2**20),
        "gpu": _said("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def parser_of(doc: str | None, source: Path | None = None) -> argparse.ArgumentParser:
    """A benchmark's flags, with those that all have; one that needs bins names where they are by default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="to see that it works; its figures mean little")
    parser.add_argument("--json", type=Path, help="where to write all that was measured")
    if source:
        what = "folder of bins (default: real ones beside the checkout; where there are none, as many rendered ones)"
        parser.add_argument("--source", type=Path, default=source, help=what)
    return parser


@contextlib.contextmanager
def bins_at(source: Path, number: int, here: dict) -> Iterator[Path]:
    """A folder of bins in the bucket's layout.

    Args:
        source: Where they are asked for.
        number: How many are needed.
        here: What `machine` said; notes if they are rendered.

    Raises:
        SystemExit: If a folder that was named holds none.
    """
    if (source / "bin-images").is_dir():
        yield source.resolve()
    elif source not in (SMALL, ORIGINALS):
        raise SystemExit(f"{source}: no bins there, nothing measured. Name a folder with --source.")
    else:
        drawn = min(4999, number * 6 // 5)  # one in nine has a count that is not among 1 to 5
        print(f"  no real bins at {source}: rendering {drawn:,} ...", flush=True)
        here["rendered"] = True
        with tempfile.TemporaryDirectory(prefix="bench-bins-") as folder:
            run_process(
                [sys.executable, "-m", "bincount.local.sample.render", f"--folder={folder}/bins", f"--bins={drawn}"]
            )
            yield Path(folder) / "bins"


def publish(options: argparse.Namespace, ratios: Sequence[Ratio], report: str, measured: object, here: dict) -> None:
    """Prints what came out, ratios first, and writes it where `--json` says.

    Args:
        options: What `parser_of` reads.
        ratios: The answer.
        report: What it is made of, in Markdown.
        measured: Every figure, JSON-ready.
        here: What `machine` said before the first measurement.
    """
    print(f"\n{table_of(ratios)}\n\n{report}" if ratios else report, flush=True)
    if options.json:
        found = {"quick": options.quick, "machine": here, "ratios": [asdict(ratio) for ratio in ratios]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found | {"report": report, "measured": measured}, indent=1) + "\n")


def table_of(ratios: Sequence[Ratio]) -> str:
    """The answer as a table."""
    lines = ["| | median | range | goal |", "|---|---|---|---|"]
    for ratio in ratios:
        shape = ",.0f" if abs(ratio.median) >= 100 else ".2f" if abs(ratio.median) >= 1 else ".3f"
        low, high = format(ratio.low, shape), format(ratio.high, shape)
        width = "" if ratio.low == ratio.high else f"{low} to {high}"
        lines.append(f"| {ratio.what} | **{format(ratio.median, shape)}** | {width} | {ratio.goal} |")
    return "\n".join(lines)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _commit() -> str:
    """Short hash of the checkout's commit, marked where the code is another; results do not count."""
    git = ("git", "-C", str(CHECKOUT))
    changed = _said(*git, "status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results", ":!docs/benchmarks.md")
    return f"{_said(*git, 'rev-parse', '--short', 'HEAD') or 'unknown'}{'-dirty' if changed else ''}"


def _said(*command: str) -> str | None:
    """What a command prints, None where there is none or it fails."""
    if not shutil.which(command[0]):
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
