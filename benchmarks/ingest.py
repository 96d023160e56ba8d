"""How fast bins come in, against what a user would do instead.

    python -m benchmarks.ingest [--photos 5000] [--repeats 3] [--latency-ms 0 20] [--json FILE]
    python -m benchmarks.ingest --growth 1000 100000      # peak memory and time by number of bins

Every contender fetches the same photos of about 50 KB from the same server on this machine, in a process of its own,
in an order that alternates between repeats. The others write a file a photo; bincount ends with checked shards and a
manifest, and for that fetches every photo's metadata too. Counted are photos; time and processor time are the whole
process's, its start included. `download_file` one after the other is timed on fewer photos, since its rate does not
depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.bucket_server import Running, run_server

SEED, S5CMD, OURS = "download_file, one by one", "s5cmd cp", "bincount ingest"
S5CMD_ALL = "s5cmd cp, metadata too"
CONTENDERS = (SEED, "boto3, 32 threads", "aws s3 cp", S5CMD, S5CMD_ALL, "bincount with boto3", OURS)
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Run:
    """One run of one contender."""

    contender: str
    latency_ms: float
    photos: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    requests: int
    connections: int

    @property
    def rate(self) -> float:
        return self.photos / self.wall_s


def command_of(contender: str, server: Running, photos: int, place: Path) -> list[str]:
    """What a user would type."""
    url = server.endpoint
    if contender == "aws s3 cp":
        there = ["s3://bins/bin-images/", str(place)]
        return [str(BIN / "aws"), "s3", "cp", "--recursive", "--no-sign-request", "--only-show-errors",
                "--region", "us-east-1", "--endpoint-url", url, *there]  # fmt: skip
    if contender in (S5CMD, S5CMD_ALL):
        there = ["s3://bins/bin-images/*" if contender == S5CMD else "s3://bins/*", f"{place}/"]
        return [str(BIN / "s5cmd"), "--no-sign-request", "--log", "error", "--endpoint-url", url, "cp", *there]
    return [sys.executable, "-m", "benchmarks.ingest", "--as", contender, url, str(photos), str(place)]


def measure(contender: str, server: Running, latency_ms: float, photos: int) -> Run:
    """Runs one contender once."""
    place = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environ |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1"}
    before = server.stats()
    started_s = time.monotonic()
    with subprocess.Popen(command_of(contender, server, photos, place), env=environ, stdout=subprocess.DEVNULL) as one:
        _, status, used = os.wait4(one.pid, 0)
        one.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.monotonic() - started_s
    after = server.stats()
    written = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    shutil.rmtree(place)
    if one.returncode or written < photos * 45_000:
        raise SystemExit(f"{contender}: exit {one.returncode}, {written:,} bytes written")
    requests = sum(after[kind] - before.get(kind, 0) for kind in after if kind.startswith(("GET ", "HEAD ")))
    connections = after["connections"] - before["connections"]
    return Run(contender, latency_ms, photos, wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, requests,
               connections)  # fmt: skip


def compare(photos: int, repeats: int, latencies_ms: Sequence[float], only: Sequence[str]) -> list[Run]:
    """Runs every contender at every latency, in alternating order."""
    runs = []
    with run_server(bins=photos, photo_bytes=50_000, counts="1-5") as server:
        print(f"server alone: {server_limit(server, photos):,.0f} GET/s, read and thrown away", flush=True)
        for latency_ms in latencies_ms:
            server.set(latency_ms=latency_ms)
            few = max(100, photos // (10 if latency_ms else 4))
            for repeat in range(repeats):
                for contender in only[::-1] if repeat % 2 else only:
                    run = measure(contender, server, latency_ms, few if contender == SEED else photos)
                    runs.append(run)
                    print(f"  {latency_ms:g} ms  {contender:26} {run.rate:8,.0f} photos/s", flush=True)
    return runs


def server_limit(server: Running, photos: int) -> float:
    """How many photos a second the server answers to the fastest client at hand."""
    code = (
        "import sys, time, obstore\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from obstore.store import S3Store\n"
        "s = S3Store('bins', endpoint=sys.argv[1], skip_signature=True, client_options={'allow_http': True})\n"
        "read = lambda n: len(obstore.get(s, f'bin-images/{n:05d}.jpg').bytes())\n"
        "started = time.monotonic()\n"
        "with ThreadPoolExecutor(16) as pool: sum(pool.map(read, range(1, int(sys.argv[2]) + 1)))\n"
        "print(int(sys.argv[2]) / (time.monotonic() - started))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, server.endpoint, str(photos)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def take_part(contender: str, endpoint: str, photos: int, place: Path) -> None:
    """What a contender that is written in Python does, in its own process."""
    keys = [f"bin-images/{number:05d}.jpg" for number in range(1, photos + 1)]
    if contender in (OURS, "bincount with boto3"):
        return _ingest(endpoint, place, with_boto3=contender != OURS)
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    workers = 32
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED, max_pool_connections=workers),
    )
    if contender == SEED:
        for key in keys:
            client.download_file("bins", key, str(place / key.rsplit("/", 1)[1]))
        return None
    from concurrent.futures import ThreadPoolExecutor

    def save(key: str) -> None:
        data = client.get_object(Bucket="bins", Key=key)["Body"].read()
        (place / key.rsplit("/", 1)[1]).write_bytes(data)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(save, keys))
    return None


def _ingest(endpoint: str, place: Path, *, with_boto3: bool) -> None:
    from bincount.edge.s3 import S3Store
    from bincount.edge.settings import Settings
    from bincount.edge.store import Fetched
    from bincount.steps.ingest import collect

    if with_boto3:

        def read(store: S3Store, bulk: object, key: str, stopped: object) -> Fetched:
            answer = store._open().client.get_object(Bucket="bins", Key=key)
            return Fetched(key, answer["Body"].read(), answer["ETag"].strip('"'))

        S3Store._read = read  # type: ignore[method-assign,assignment]
    collect(Settings(place, "", place, buckets={"bins": endpoint}), source="s3://bins")


def grow(sizes: Sequence[int]) -> list[Run]:
    """Ingests ever more bins, with photos of 5 KB to spare the disk."""
    runs = []
    for bins in sizes:
        place = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
        with run_server(bins=bins, photo_bytes=5_000, counts="1-5") as server:
            started_s = time.monotonic()
            with subprocess.Popen(command_of(OURS, server, bins, place), stdout=subprocess.DEVNULL) as one:
                _, status, used = os.wait4(one.pid, 0)
                one.returncode = os.waitstatus_to_exitcode(status)
            wall_s = time.monotonic() - started_s
            stats = server.stats()
        shutil.rmtree(place)
        cpu_s, peak_mb = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        runs.append(Run(OURS, 0, bins, wall_s, cpu_s, peak_mb, sum(stats.values()), stats["connections"]))
        print(f"{bins:9,} bins  {wall_s:7.1f} s  {cpu_s:7.1f} s processor  {peak_mb:5.0f} MB peak", flush=True)
    return runs


def table_of(runs: Sequence[Run]) -> str:
    """Ratios first, then medians with their range."""
    lines = [
        "| latency | contender | x one by one | x s5cmd | photos/s | processor ms/photo | requests/photo | peak MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for latency_ms in sorted({run.latency_ms for run in runs}):
        of = {name: [r for r in runs if (r.contender, r.latency_ms) == (name, latency_ms)] for name in CONTENDERS}
        median = {name: statistics.median(r.rate for r in found) for name, found in of.items() if found}
        for name in median:
            rates = [run.rate for run in of[name]]
            cpu = statistics.median(run.cpu_s / run.photos for run in of[name]) * 1000
            asked = statistics.median(run.requests / run.photos for run in of[name])
            ratios = [f"{median[name] / median[peer]:.1f}" if peer in median else "-" for peer in (SEED, S5CMD)]
            lines.append(
                f"| {latency_ms:g} ms | {name} | {ratios[0]} | {ratios[1]} | "
                f"{median[name]:,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) | {cpu:.2f} | {asked:.2f} | "
                f"{max(run.peak_mb for run in of[name]):.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0, 20])
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=CONTENDERS, metavar="CONTENDER")
    parser.add_argument("--growth", type=int, nargs="+", metavar="BINS", help="peak memory and time instead")
    parser.add_argument("--json", type=Path, help="where to write every run")
    parser.add_argument("--as", nargs=4, dest="role", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        contender, endpoint, photos, place = options.role
        return take_part(contender, endpoint, int(photos), Path(place))
    if options.growth:
        runs = grow(options.growth)
    else:
        runs = compare(options.photos, options.repeats, options.latency_ms, options.only)
        print(f"\n{table_of(runs)}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))
    return None


if __name__ == "__main__":
    main()
