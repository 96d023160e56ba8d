"""The chain and a reconciliation on as many bins as the bucket has, each long step killed once.

    python -m benchmarks.bucket [--bins 536434] [--image-px 64] [--folder DIR] [--quick] [--json FILE]

A simulated bucket serves 200 rendered photos of a few kilobytes under that many ids, padded and unpadded, with
metadata; of each kind of fault one bin in 1,000. Every step is a command in a process of its own; `fetch` is four of
them, one after the other. A long step is killed (kill -9) after `--kill-after` seconds, if it has not ended, and run
again: its time is that of both attempts. With `--folder` what is finished stays there, and the same command goes on
after the last finished step.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.growth import WHOLE
from benchmarks.measure import machine, parser_of, publish, run_process
from tests.bucket_server import FAULTS, run_server

PORT, SHARES, UNPADDED = 9411, 4, 1_200
LONG = {"plan", "fetch 2/4", "extract", "tune", "evaluate", "reconcile"}
PHOTOS, PHOTO_PX = 200, 160


@dataclass(frozen=True)
class Step:
    """One step, both attempts together where it was killed.

    Attributes:
        killed_s: How long the first attempt of a long step ran until it was killed or had ended.
        disk_mb: Size of the workspace after it.
    """

    name: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    killed_s: float
    disk_mb: float
    answer: dict[str, Any]


def write_photos(folder: Path) -> None:
    """Renders small photos, named by the number of items in them."""
    from PIL import Image

    from bincount.dataset.metadata import parse_metadata
    from bincount.local.sample.plan import plan_bins
    from bincount.local.sample.render import render_bin

    folder.mkdir(parents=True, exist_ok=True)
    for number, planned in enumerate(plan_bins(PHOTOS, seed=0)):
        photo, metadata = render_bin(planned)
        image, small = Image.open(io.BytesIO(photo)), io.BytesIO()
        image.thumbnail((PHOTO_PX, PHOTO_PX))
        image.save(small, "JPEG", quality=70)
        recorded = parse_metadata("1", metadata).recorded
        (folder / f"{recorded}-{number:03d}.jpg").write_bytes(small.getvalue())


class Chain:
    """The commands on one workspace, and what they have answered."""

    def __init__(self, folder: Path, kill_after_s: float) -> None:
        self._folder, self._kill_after_s = folder, kill_after_s
        self._notes = folder / "steps.json"
        self.steps = [Step(**each) for each in json.loads(self._notes.read_text())] if self._notes.exists() else []
        self.answers: dict[str, Any] = {}
        for step in self.steps:
            self.answers |= step.answer
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._env |= {
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REGION": "us-east-1",
            "BINCOUNT_BUCKETS": json.dumps({"bins": f"http://127.0.0.1:{PORT}"}),
            "BINCOUNT_WORKSPACE": str(folder / "data"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        }

    def run(self, name: str, verb: str, **flags: Any) -> None:
        """Runs a command that has not ended before, kills it once if it is a long one, and notes its cost."""
        if any(step.name == name for step in self.steps):
            return
        words = [f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items()]
        command = [sys.executable, "-m", "bincount", verb, *words]
        killed_s = self._kill(command) if name in LONG else 0.0
        spent, output = run_process(command, env=self._env, cwd=self._folder)
        answer = json.loads(output)
        step = Step(
            name,
            killed_s + spent.wall_s,
            spent.cpu_s,
            spent.peak_mb,
            killed_s,
            size_mb(self._folder / "data"),
            {key: value for key, value in answer.items() if isinstance(value, str | int | float | dict)},
        )
        self.steps.append(step)
        self.answers |= step.answer
        self._notes.write_text(json.dumps([asdict(each) for each in self.steps]))
        print(f"  {name:10} {step.wall_s:8,.1f} s  {step.cpu_s:8,.1f} s  {step.peak_mb:6,.0f} MB", flush=True)

    def _kill(self, command: list[str]) -> float:
        """Starts a command and kills it after a while; returns for how long it ran."""
        began = time.monotonic()
        with subprocess.Popen(
            command, env=self._env, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                process.wait(self._kill_after_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        return time.monotonic() - began


def size_mb(folder: Path) -> float:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def run(folder: Path, bins: int, image_px: int, kill_after_s: float) -> list[Step]:
    """The chain and a reconciliation of all bins."""
    photos = folder / "photos"
    if not photos.exists():
        write_photos(photos)
    flags = ["--photos", str(photos), "--unpadded", str(UNPADDED), "--faulty"]
    with run_server(bins=bins - UNPADDED, counts="0-9", port=PORT, flags=flags):
        chain, source = Chain(folder, kill_after_s), {"source": "s3://bins", "max_rejected": 0.02}
        chain.run("plan", "plan", **source)
        for share in range(1, SHARES + 1):
            chain.run(f"fetch {share}/{SHARES}", "fetch", plan=chain.answers["plan"], share=f"{share}/{SHARES}")
        chain.run("ingest", "ingest", **source)
        of_run = {"run_id": chain.answers["run_id"]}
        chain.run("extract", "prepare", **of_run, manifest=chain.answers["manifest"], image_px=image_px)
        features = {"features": chain.answers["features"]}
        chain.run("tune", "tune", **of_run, **features, trials=3, max_epochs=5)
        chain.run("train", "train", **of_run, **features)
        chain.run("evaluate", "evaluate", **of_run)
        chain.run("register", "register", **of_run)
        model = chain.answers["model_uri"]
        chain.run("reconcile", "reconcile", source="s3://bins", model=model, capacity=500, out=folder / "worklist")
        return chain.steps


def report(steps: list[Step], bins: int, image_px: int) -> str:
    """Every step's cost."""
    found = {step.name: step.answer for step in steps}
    lines = [
        f"{bins:,} bins, of which {sum(bins // 1000 for _ in FAULTS):,} or so are faulty; photos at {image_px} px.",
        f"{found['ingest']['bins']:,} were ingested, {found['ingest']['rejected']:,} set aside, and "
        f"{found['reconcile']['bins']:,} listed by the reconciliation.",
        "",
        "| step | s | processor s | peak MB | first attempt s | workspace MB |",
        "|---|---|---|---|---|---|",
    ]
    for step in steps:
        killed = f"{step.killed_s:,.0f}" if step.killed_s else ""
        cells = f"{step.wall_s:,.1f} | {step.cpu_s:,.1f} | {step.peak_mb:,.0f} | {killed} | {step.disk_mb:,.0f}"
        lines.append(f"| {step.name} | {cells} |")
    total = sum(step.wall_s for step in steps)
    return "\n".join([*lines, "", f"In all {total / 3600:,.2f} hours."])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--bins", type=int, default=WHOLE, help=f"how many (default: {WHOLE:,}, the whole bucket)")
    parser.add_argument("--image-px", type=int, default=64)
    parser.add_argument("--kill-after", type=float, default=60.0, metavar="S", help="of a long step (default: 60)")
    parser.add_argument("--folder", type=Path, help="keeps what is finished, so that the same command goes on")
    options = parser.parse_args()
    here = machine()
    if options.quick:
        options.bins, options.image_px, options.kill_after = 5_000, 32, 15.0
    with tempfile.TemporaryDirectory(prefix="bench-bucket-") as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        steps = run(folder, options.bins, options.image_px, options.kill_after)
    publish(options, [], report(steps, options.bins, options.image_px), [asdict(step) for step in steps], here)


if __name__ == "__main__":
    main()
