"""Runs the benchmarks and writes docs/benchmarks.md: `make bench`.

    python -m benchmarks [--quick] [--only [NAME ...]]

Each benchmark runs in a process of its own and writes `benchmarks/results/NAME.json`; docs/benchmarks.md is made from
those files, so a single one can be repeated. `--quick` writes to `benchmarks/results/quick/` and checks that all work;
its figures are not reliable. If one fails, it is named and the others still run. When this process is stopped or
killed, so are all that it has started; only SIGKILL leaves temporary files behind.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import CHECKOUT, Ratio, table_of
from bincount.process.session_guard import guarded_command, kill_session

RESULTS = CHECKOUT / "benchmarks" / "results"
QUESTIONS = {
    "ingest": "How fast are bins ingested, compared with other tools?",
    "images": "How fast are photos decoded and resized on one core, compared with other readers?",
    "extraction": "How fast are features extracted, compared with the bare TensorFlow network?",
    "search": "How long does a search on cached features take, compared with running the network in every step?",
    "search_memory": "How much memory does a search take on the features of the whole bucket?",
    "serving": "How fast are photos counted over HTTP, compared with `mlflow models serve` and a bare loop?",
    "engine": "How fast is a network in each library and precision?",
    "worker": "How soon does a version's process answer, how fast, and how much memory does it hold?",
    "shadow": "How much slower are answers while they are logged and a shadow answers the same requests?",
    "soak": "Does the server's memory grow over an hour of load?",
    "reconcile": "How fast are records compared with photos, compared with a loop of `model.predict` and pandas?",
    "object_storage": "How much slower are steps on a workspace in a bucket than in a folder?",
    "orchestration": "What does Airflow add to a task?",
    "growth": "How do time and memory grow with the number of bins?",
    "bucket": "What do the steps cost on as many bins as the bucket has?",
    "gpu": "How fast are extraction and fine-tuning on a GPU?",
}


def run(names: list[str], results: Path, *, quick: bool) -> list[str]:
    """Runs benchmarks one after the other; returns the names of those that failed."""
    failed = []
    for name in names:
        flags = [f"--json={results / name}.json", *(["--quick"] if quick else [])]
        print(f"\n== {name}: {QUESTIONS[name]}", flush=True)
        began = time.monotonic()
        status = run_alone([sys.executable, "-m", f"benchmarks.{name}", *flags])
        print(f"== {name}: {'failed' if status else 'done'} in {time.monotonic() - began:.0f} s", flush=True)
        failed += [name] * bool(status)
    return failed


def run_alone(command: list[str]) -> int:
    """Runs a process that ends with this one and leaves no process or file; returns its exit status."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        env = os.environ | {"TMPDIR": folder}
        with subprocess.Popen(guarded_command(command), cwd=CHECKOUT, env=env, start_new_session=True) as process:
            try:
                return process.wait()
            finally:
                kill_session(process.pid)


def page_of(results: Path) -> str:
    """The text of docs/benchmarks.md, from a folder of results."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit. Results first, then the figures behind them: medians, and ranges over",
        "repeats. All figures are in `benchmarks/results/`; failed experiments, and runs of some benchmarks by other",
        "settings, are in the [log](log.md).",
    ]
    for name, question in QUESTIONS.items():
        path = results / f"{name}.json"
        if not path.exists():
            lines += ["", f"## {question}", "", f"No stored result. `python -m benchmarks.{name}`"]
            continue
        result = json.loads(path.read_text())
        here = result["machine"]
        where = (
            f"{here['date']}, commit {here['commit']}, {here['cores']} cores ({here['processor']}), "
            f"{here['memory_gb']} GB, {here['gpu'] or 'no GPU'}, load {here['load']} before it"
            f"{', on rendered bins' if here.get('rendered') else ''}."
        )
        lines += ["", f"## {question}", "", f"`python -m benchmarks.{name}`: {where}", ""]
        if result["ratios"]:
            lines += [table_of([Ratio(**ratio) for ratio in result["ratios"]]), ""]
        lines.append(result["report"].strip())
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few minutes for all; figures are not reliable")
    parser.add_argument("--only", nargs="*", choices=QUESTIONS, default=list(QUESTIONS), metavar="NAME",
                        help="only these; without a name, only the page")  # fmt: skip
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    results = RESULTS / "quick" if options.quick else RESULTS
    failed = run(options.only, results, quick=options.quick)
    page = results / "benchmarks.md" if options.quick else CHECKOUT / "docs" / "benchmarks.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(page_of(results))
    print(f"\n{page.relative_to(CHECKOUT)}: written")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
