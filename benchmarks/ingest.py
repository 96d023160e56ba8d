"""Speed of ingesting bins, compared with other tools.

    python -m benchmarks.ingest [--photos 5000] [--repeats 3] [--latency-ms 0 20] [--quick] [--json FILE]
    python -m benchmarks.ingest --growth 1000 100000      # peak memory and time by number of bins

Every contender fetches the same photos of about 50 KB from the same server on this machine, in a process of its own,
in an order that alternates between repeats. The others write a file a photo; bincount ends with checked shards and a
manifest, and for that fetches every photo's metadata too. Photos are counted; time and processor time are those of the
process, its start included. `download_file` one after the other is timed on fewer photos, since its rate does not
depend on them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import Ratio, machine, paired, parser_of, publish, run_process, spread
from tests.bucket_server import Running, run_server

SEED, S5CMD, OURS = "download_file, one by one", "s5cmd cp", "bincount ingest"
S5CMD_ALL = "s5cmd cp, metadata too"
CONTENDERS = (SEED, "boto3, 32 threads", "aws s3 cp", S5CMD, S5CMD_ALL, "bincount with boto3", OURS)
BIN = Path(sys.executable).parent
GOALS = ("8 or more", "50 or more")  # against the seed's way, without and with latency


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


def command_of(contender: str, server: Running, photos: int, folder: Path) -> list[str]:
    """The command that a user would type."""
    url = server.endpoint
    if contender == "aws s3 cp":
        paths = ["s3://bins/bin-images/", str(folder)]
        return [str(BIN / "aws"), "s3", "cp", "--recursive", "--no-sign-request", "--only-show-errors",
                "--region", "us-east-1", "--endpoint-url", url, *paths]  # fmt: skip
    if contender in (S5CMD, S5CMD_ALL):
        paths = ["s3://bins/bin-images/*" if contender == S5CMD else "s3://bins/*", f"{folder}/"]
        return [str(BIN / "s5cmd"), "--no-sign-request", "--log", "error", "--endpoint-url", url, "cp", *paths]
    return [sys.executable, "-m", "benchmarks.ingest", "--as", contender, url, str(photos), str(folder)]


def measure(contender: str, server: Running, latency_ms: float, photos: int) -> Run:
    """Runs one contender once."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environ |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1"}
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
        before = server.stats()
        spent, _ = run_process(command_of(contender, server, photos, Path(folder)), env=environ)
        after = server.stats()
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    if written < photos * server.photo_bytes * 0.9:
        raise SystemExit(f"{contender}: {photos} photos must be written, got {written:,} bytes")
    requests = sum(after[kind] - before.get(kind, 0) for kind in after if kind.startswith(("GET ", "HEAD ")))
    connections = after["connections"] - before.get("connections", 0)
    return Run(contender, latency_ms, photos, spent.wall_s, spent.cpu_s, spent.peak_mb, requests, connections)


def compare(photos: int, repeats: int, latencies_ms: Sequence[float], only: Sequence[str]) -> tuple[list[Run], float]:
    """Runs every contender at every latency, in alternating order; returns also the server's limit."""
    runs = []
    with run_server(bins=photos, photo_bytes=50_000, counts="1-5") as server:
        limit = server_limit(server, photos)
        for latency_ms in latencies_ms:
            server.set(latency_ms=latency_ms)
            few = max(100, photos // (10 if latency_ms else 4))
            for repeat in range(repeats):
                for contender in only[::-1] if repeat % 2 else only:
                    run = measure(contender, server, latency_ms, few if contender == SEED else photos)
                    runs.append(run)
                    print(f"  {latency_ms:g} ms  {contender:26} {run.rate:8,.0f} photos/s", flush=True)
    return runs, limit


def server_limit(server: Running, photos: int) -> float:
    """Photos a second that the server answers to the fastest client."""
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


def take_part(contender: str, endpoint: str, photos: int, folder: Path) -> None:
    """Runs a contender that is written in Python, in this process."""
    keys = [f"bin-images/{number:05d}.jpg" for number in range(1, photos + 1)]
    if contender in (OURS, "bincount with boto3"):
        return _ingest(endpoint, folder, with_boto3=contender != OURS)
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
            client.download_file("bins", key, str(folder / key.rsplit("/", 1)[1]))
        return None
    from concurrent.futures import ThreadPoolExecutor

    def save(key: str) -> None:
        data = client.get_object(Bucket="bins", Key=key)["Body"].read()
        (folder / key.rsplit("/", 1)[1]).write_bytes(data)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(save, keys))
    return None


def _ingest(endpoint: str, folder: Path, *, with_boto3: bool) -> None:
    from bincount.dataset.ingest import collect
    from bincount.settings import Settings
    from bincount.store.interface import FetchedObject
    from bincount.store.s3 import S3Store

    if with_boto3:

        def read(store: S3Store, bulk: object, key: str, stopped: object) -> FetchedObject:
            answer = store._open().client.get_object(Bucket="bins", Key=key)
            return FetchedObject(key, answer["Body"].read(), answer["ETag"].strip('"'))

        S3Store._read = read  # type: ignore[method-assign,assignment]
    collect(Settings(folder, "", folder, buckets={"bins": endpoint}), source="s3://bins")


def grow(sizes: Sequence[int]) -> list[Run]:
    """Ingests growing numbers of bins, with photos of 5 KB to save disk space."""
    runs = []
    for bins in sizes:
        with run_server(bins=bins, photo_bytes=5_000, counts="1-5") as server:
            run = measure(OURS, server, 0, bins)
        runs.append(run)
        print(
            f"{bins:9,} bins  {run.wall_s:7.1f} s  {run.cpu_s:7.1f} s processor  {run.peak_mb:5.0f} MB peak", flush=True
        )
    return runs


def ratios_of(runs: Sequence[Run]) -> list[Ratio]:
    """Ours against the others, repeat by repeat, at each latency."""
    ratios = []
    for latency_ms in sorted({run.latency_ms for run in runs}):
        rates = {name: [run.rate for run in runs if (run.contender, run.latency_ms) == (name, latency_ms)]
                 for name in CONTENDERS}  # fmt: skip
        for name in CONTENDERS:
            if name != OURS and rates[name] and rates[OURS]:
                what = f"times as fast as {name}, {latency_ms:g} ms latency"
                goal = GOALS[latency_ms > 0] if name == SEED else "1 or more" if name == S5CMD else ""
                ratios.append(Ratio.of(what, paired(rates[OURS], rates[name]), goal))
    return ratios


def report(runs: Sequence[Run], limit: float) -> str:
    """The figures behind the ratios."""
    lines = [
        f"{max(run.photos for run in runs):,} photos; the server alone answers {limit:,.0f} GET/s.",
        "",
        "| latency | contender | photos/s | processor ms/photo | requests/photo | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for latency_ms, name in dict.fromkeys((run.latency_ms, run.contender) for run in runs):
        repeats = [run for run in runs if (run.latency_ms, run.contender) == (latency_ms, name)]
        cells = (
            spread([run.rate for run in repeats], ",.0f"),
            spread([run.cpu_s / run.photos * 1000 for run in repeats], ".2f"),
            f"{repeats[0].requests / repeats[0].photos:.2f}",
            f"{max(run.peak_mb for run in repeats):.0f}",
        )
        lines.append(f"| {latency_ms:g} ms | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0, 20])
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=CONTENDERS, metavar="CONTENDER")
    parser.add_argument("--growth", type=int, nargs="+", metavar="BINS", help="peak memory and time instead")
    parser.add_argument("--as", nargs=4, dest="role", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        contender, endpoint, photos, folder = options.role
        return take_part(contender, endpoint, int(photos), Path(folder))
    if options.growth:
        grow(options.growth)
        return None
    here = machine()
    if options.quick:
        options.photos, options.repeats, options.only = 300, 1, [SEED, S5CMD, OURS]
    runs, limit = compare(options.photos, options.repeats, options.latency_ms, options.only)
    return publish(options, ratios_of(runs), report(runs, limit), [asdict(run) for run in runs], here)


if __name__ == "__main__":
    main()
