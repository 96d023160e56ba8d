"""Shared by all benchmarks: timed processes, medians with ranges, facts of the machine, and files of results."""

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
# The nearest folder `shared` in a parent folder.
SHARED = next(
    (folder for parent in CHECKOUT.parents if (folder := parent / "shared" / "abid-224").is_dir()),
    Path("../shared/abid-224"),
).parent
SMALL, ORIGINALS = SHARED / "abid-224", SHARED / "abid"


@dataclass(frozen=True)
class Spent:
    """Wall-clock seconds, processor seconds, and peak memory of the process."""

    wall_s: float
    cpu_s: float
    peak_mb: float = math.nan


@dataclass(frozen=True)
class Ratio:
    """A result of a benchmark: median and range over repeats."""

    what: str
    median: float
    low: float
    high: float
    goal: str = ""

    @classmethod
    def of(cls, what: str, values: Sequence[float], goal: str = "") -> Ratio:
        return cls(what, statistics.median(values), min(values), max(values), goal)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Quotients of ours and theirs in the same repeat, so that the machine's load cancels out."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def spread(values: Sequence[float], shape: str = ",.1f") -> str:
    """Median and range, as in "5.1 (4.9 to 5.3)"."""
    middle, low, high = (format(value, shape) for value in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def timed(work: Callable[[], object]) -> Spent:
    """Calls a function, and returns its times."""
    wall_s, cpu_s = time.monotonic(), time.process_time()
    work()
    return Spent(time.monotonic() - wall_s, time.process_time() - cpu_s)


def run_process(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[Spent, str]:
    """Runs a process to its end; returns its times, those of its children included, and its output.

    Raises:
        SystemExit: If it fails; the message has the end of its stderr.
    """
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        began = time.monotonic()
        with subprocess.Popen(command, env=env, cwd=cwd, stdout=stdout, stderr=stderr) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - began
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode:
            raise SystemExit(f"{command}: exit {process.returncode}.\n{stderr.read()[-3000:]}")
        return Spent(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024), stdout.read()


def machine() -> dict[str, Any]:
    """Date, commit, processor, memory, GPU and load of this machine."""
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
        "gpu": _stdout_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def parser_of(doc: str | None, source: Path | None = None) -> argparse.ArgumentParser:
    """The flags that all benchmarks have; with `source`, also the folder of bins."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short run that checks that it works")
    parser.add_argument("--json", type=Path, help="file for all results")
    if source:
        help_text = "folder of bins (default: real ones beside the checkout if there are any, else rendered ones)"
        parser.add_argument("--source", type=Path, default=source, help=help_text)
    return parser


@contextlib.contextmanager
def bins_at(source: Path, number: int, here: dict) -> Iterator[Path]:
    """A folder of bins in the bucket's layout.

    Args:
        source: The folder named by `--source`.
        number: Number of bins needed.
        here: The facts of `machine`; receives `rendered` if the bins are rendered.

    Raises:
        SystemExit: If a folder other than the defaults has no bins.
    """
    if (source / "bin-images").is_dir():
        yield source.resolve()
    elif source not in (SMALL, ORIGINALS):
        raise SystemExit(f"{source}: must hold bins, got none. Name a folder with --source.")
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
    """Prints the results, ratios first, and writes them to the file of `--json`.

    Args:
        options: The flags of `parser_of`.
        ratios: The results.
        report: The figures behind them, in Markdown.
        measured: All figures, JSON-ready.
        here: The facts of `machine` before the first measurement.
    """
    print(f"\n{table_of(ratios)}\n\n{report}" if ratios else report, flush=True)
    if options.json:
        result = {"quick": options.quick, "machine": here, "ratios": [asdict(ratio) for ratio in ratios]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result | {"report": report, "measured": measured}, indent=1) + "\n")


def table_of(ratios: Sequence[Ratio]) -> str:
    """A Markdown table of results."""
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
    """Short hash of the checkout's commit, marked "-dirty" if files other than results differ."""
    git = ("git", "-C", str(CHECKOUT))
    changed = _stdout_of(
        *git, "status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results", ":!docs/benchmarks.md"
    )
    return f"{_stdout_of(*git, 'rev-parse', '--short', 'HEAD') or 'unknown'}{'-dirty' if changed else ''}"


def _stdout_of(*command: str) -> str | None:
    """A command's output; None if it does not exist or fails."""
    if not shutil.which(command[0]):
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
