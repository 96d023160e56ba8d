"""Time of a step on a workspace in a bucket against one in a local folder.

    python -m benchmarks.object_storage [--repeats 2] [--bins 2000] [--photos 384] [--quick] [--json FILE]

The S3 server is moto, pure Python, on this machine: slower than any real one, and it takes the processors' time that
the step would have, which is a column. Each step runs in this process, folder and bucket in turns: an ingest of photos
of 50 KB from another simulated bucket into shards of 20 MB; the features of photos by EfficientNetLite0 at 224 px on a
machine that has an empty cache, so that it pulls shards and network first; and a fine-tuning of it at 96 px, whose
state is pushed after every epoch. The same with a proxy that takes 20 ms for each request of the workspace. Besides the
quotients, the share of a step's time in which it waited for the workspace: it is steadier where others use the machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Ratio, machine, paired, parser_of, publish, spread
from benchmarks.serving_contenders import free_port
from bincount.settings import Settings
from bincount.store import workspace
from bincount.store.bucket_workspace import BucketWorkspace
from tests.bucket_server import run_server

BUCKET, KEY = "bench", "AWS_ACCESS_KEY_ID"
STEPS = {"ingest": 1.25, "extraction": 1.25, "training": 1.05}
FOLDER, NEAR, FAR = "folder", "bucket", "bucket, 20 ms"
SHARD_BYTES = 20_000_000
FOUND = {"learning_rate": 2e-2, "batch_size": 32, "epochs": 6, "units": 16, "dropout": 0.1}
EPOCHS = 2


@dataclass(frozen=True)
class Cell:
    """One step on one workspace, once.

    `waited_s` are the seconds in which the step's main thread waited for the workspace, `server_s` those of a processor
    that the S3 server took.
    """

    step: str
    where: str
    wall_s: float
    waited_s: float
    server_s: float
    requests: int
    pulled_mb: float
    pushed_mb: float


@contextlib.contextmanager
def moto() -> Iterator[tuple[str, int]]:
    """Address and process of an S3 server, with a bucket."""
    import boto3

    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            address, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
            while True:
                try:
                    boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket=BUCKET)
                    break
                except Exception as error:
                    if time.monotonic() > until:
                        raise SystemExit(f"moto did not start in 60 s: {error}") from error
                    time.sleep(0.2)
            yield address, process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def delayed(address: str, latency_ms: float) -> Iterator[str]:
    """Address of a proxy that takes its time."""
    command = [sys.executable, "-m", "tests.s3_proxy", address, str(latency_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip() if process.stdout else ''}"
        finally:
            process.kill()


def processor_s(pid: int) -> float:
    """Seconds of a processor that a process has taken."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Waited:
    """Adds up the time that the main thread waits for answers of a workspace's bucket."""

    def __init__(self) -> None:
        self.seconds, ask = 0.0, BucketWorkspace._ask

        def timed(*arguments: Any) -> Any:
            began = time.monotonic()
            try:
                return ask(*arguments)
            finally:
                if threading.current_thread() is threading.main_thread():
                    self.seconds += time.monotonic() - began

        BucketWorkspace._ask = timed  # type: ignore[method-assign,assignment]


class Bench:
    """The three steps on workspaces of their own below a folder."""

    def __init__(
        self, folder: Path, addresses: dict[str, str], server: int, source: str, bins: int, photos: int
    ) -> None:
        self._folder, self._addresses, self._server, self._source = folder, addresses, server, source
        self._bins, self._photos = bins, photos
        self._waited, self._number = Waited(), 0
        self.cells: list[Cell] = []

    def settings(self, where: str, name: str, cache: str = "first") -> Settings:
        """Those of a machine: its workspace is a folder, or a prefix of the bucket and a cache."""
        place = self._folder / re.sub(r"\W+", "-", where) / name
        settings = Settings(
            place / cache,
            f"sqlite:///{self._folder / 'mlflow.db'}",
            self._folder / "artifacts",
            buckets={"bins": self._source},
        )
        if where == FOLDER:
            return dataclasses.replace(settings, workspace=place / "data")
        prefix = re.sub(r"\W+", "-", f"{where}/{name}")
        return dataclasses.replace(
            settings,
            remote=f"s3://{BUCKET}/{prefix}",
            buckets={"bins": self._source, BUCKET: self._addresses[where]},
        )

    def measure(self, step: str, where: str, settings: Settings, work: Callable[[], object]) -> None:
        """Does the work and keeps its figures."""
        shared = workspace.open_workspace(settings)
        usage = dict(getattr(shared, "usage", {}))
        began, waited, server_s = time.monotonic(), self._waited.seconds, processor_s(self._server)
        work()
        wall_s = time.monotonic() - began
        now = getattr(shared, "usage", {})
        spent = {name: now[name] - usage.get(name, 0) for name in now}
        requests = sum(spent.get(kind, 0) for kind in ("get", "put", "list", "delete", "lease"))
        cell = Cell(
            step,
            where,
            wall_s,
            self._waited.seconds - waited,
            processor_s(self._server) - server_s,
            requests,
            spent.get("pulled", 0) / 1e6,
            spent.get("pushed", 0) / 1e6,
        )
        self.cells.append(cell)
        print(f"  {cell}", flush=True)

    def ingest(self, where: str, repeat: int) -> None:
        from bincount.dataset import placement
        from bincount.dataset.ingest import collect

        placement.SHARD_BYTES = SHARD_BYTES
        settings = self.settings(where, f"ingest{repeat}")
        workspace.open_workspace(settings)
        asked = {"source": "s3://bins", "limit": self._bins, "counts": "1-5", "seed": 0}
        self.measure("ingest", where, settings, lambda: collect(settings, **asked))
        shutil.rmtree(settings.workspace)

    def prepare(self, where: str) -> None:
        """Ingests and prepares, unmeasured, for extraction and training to begin with."""
        from bincount.learn.prepare import prepare
        from bincount.tracking import runs
        from tests.learn.bins import write_bins

        first = self.settings(where, "learn")
        self.manifest = write_bins(first.workspace, bins=self._photos)
        shared = workspace.open_workspace(first)
        shared.push(first.workspace)
        network = {"backbone": "EfficientNetLite0", "weights": "none"}
        self.run_id = runs.open_run(first)
        asked = {"run_id": self.run_id, "manifest": self.manifest}
        self.key = prepare(first, **asked, **network, image_px=224)["features"]
        self.small = prepare(first, **asked | {"run_id": runs.open_run(first)}, **network, image_px=96)["features"]

    def extract(self, where: str, repeat: int) -> None:
        """On a machine with an empty cache."""
        from bincount.learn.feature_cache import read_features

        settings = self.settings(where, "learn", f"extract{repeat}")
        shared = workspace.open_workspace(settings)
        folder = settings.features / self.key.partition("-")[0]
        shared.pull_folder(folder)
        arrays = [path for path in folder.iterdir() if re.fullmatch(r"[0-9a-f]{16}\.npy", path.name)]
        assert arrays, folder
        shared.delete(*arrays, *(path.with_suffix(".json") for path in arrays))
        for path in arrays:
            path.unlink()
            path.with_suffix(".json").unlink()
        if where != FOLDER:
            shutil.rmtree(settings.workspace)
            workspace._opened.clear()
            workspace.open_workspace(settings)
        self.measure("extraction", where, settings, lambda: read_features(settings, self.key))

    def train(self, where: str, repeat: int) -> None:
        """A fine-tuning in a run of its own."""
        from bincount.learn.train import train
        from bincount.tracking import runs

        settings = self.settings(where, "learn")
        run_id = runs.open_run(settings)
        search = settings.run(run_id) / "search"
        search.mkdir(parents=True)
        (search / "best.json").write_text(json.dumps({"features": self.small, "best": FOUND}))
        asked = {"run_id": run_id, "features": self.small, "fine_tune_epochs": EPOCHS}
        workspace.open_workspace(settings).push(search)
        self.measure("training", where, settings, lambda: train(settings, **asked))


def run(folder: Path, repeats: int, bins: int, photos: int) -> list[Cell]:
    """Measures all steps on all workspaces, in turns."""
    with contextlib.ExitStack() as up:
        server = up.enter_context(run_server(bins=int(bins * 2.5), photo_bytes=50_000))
        near, pid = up.enter_context(moto())
        addresses = {NEAR: near, FAR: up.enter_context(delayed(near, 20))}
        bench = Bench(folder, addresses, pid, server.endpoint, bins, photos)
        everywhere = [FOLDER, *addresses]
        for repeat in range(repeats):
            for where in everywhere[:: -1 if repeat % 2 else 1]:
                bench.ingest(where, repeat)
        for where in everywhere:
            bench.prepare(where)
        for repeat in range(repeats):
            for where in everywhere[:: -1 if repeat % 2 else 1]:
                bench.extract(where, repeat)
                bench.train(where, repeat)
        return bench.cells


def report(cells: list[Cell]) -> str:
    """The figures behind the ratios."""
    lines = [
        "| step | workspace | s | waited for the workspace | server's processor s | requests | MB pulled | MB pushed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for step in STEPS:
        for where in (FOLDER, NEAR, FAR):
            some = [cell for cell in cells if (cell.step, cell.where) == (step, where)]
            waited = spread([100 * cell.waited_s / cell.wall_s for cell in some])
            last = some[-1]
            lines.append(
                f"| {step} | {where} | {spread([cell.wall_s for cell in some])} | {waited} % "
                f"| {spread([cell.server_s for cell in some])} | {last.requests} "
                f"| {last.pulled_mb:.1f} | {last.pushed_mb:.1f} |"
            )
    return "\n".join(lines)


def ratios_of(cells: list[Cell]) -> list[Ratio]:
    """Bucket / folder of each step, in the same repeat."""
    walls = {
        (step, where): [cell.wall_s for cell in cells if (cell.step, cell.where) == (step, where)]
        for step in STEPS
        for where in (FOLDER, NEAR, FAR)
    }
    return [
        Ratio.of(
            f"{step}, {where} / folder",
            paired(walls[step, where], walls[step, FOLDER]),
            f"at most {most:g}" if where == NEAR else "",
        )
        for where in (NEAR, FAR)
        for step, most in STEPS.items()
    ]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--repeats", type=int, default=2, help="of each step on each workspace (default: 2)")
    parser.add_argument("--bins", type=int, default=2000, help="that are ingested (default: 2000)")
    parser.add_argument("--photos", type=int, default=384, help="to learn from (default: 384)")
    options = parser.parse_args()
    here = machine()
    if options.quick:
        options.repeats, options.bins, options.photos = 1, 300, 96
    for name in (KEY, "AWS_SECRET_ACCESS_KEY"):
        os.environ.setdefault(name, "testing")
    with tempfile.TemporaryDirectory(prefix="bench-object-storage-") as folder:
        cells = run(Path(folder), options.repeats, options.bins, options.photos)
    waited = {
        step: statistics.median(
            cell.waited_s / cell.wall_s for cell in cells if (cell.step, cell.where) == (step, NEAR)
        )
        for step in STEPS
    }
    publish(
        options, ratios_of(cells), report(cells), {"cells": [asdict(cell) for cell in cells], "waited": waited}, here
    )


if __name__ == "__main__":
    main()
