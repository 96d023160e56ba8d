"""What an ingest survives: being killed, a failing bucket, a hundred thousand objects."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from bincount.dataset.manifest import Manifest
from bincount.dataset.shards import decode_example, read_record
from bincount.settings import Settings
from tests.bucket_server import run_server

SHARD_BYTES = 400_000


@pytest.fixture(scope="module")
def server():
    with run_server(bins=2000, photo_bytes=3000) as running:
        yield running


def command(server, workspace, verb="collect", shard_bytes=SHARD_BYTES, **asked):
    asked = asked or {"source": "s3://bins", "counts": "0-9"}
    # Few at a time, so that an ingest lasts long enough to be killed.
    told = json.dumps({"workers": 16, "buckets": {"bins": server.endpoint}, **asked})
    return [sys.executable, "-m", "tests.dataset.ingest_process", str(workspace), str(shard_bytes), verb, told]


def run(server, workspace, verb="collect", **asked):
    asked = command(server, workspace, verb, **asked)
    done = subprocess.run(asked, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def fetched(server):
    stats = server.stats()
    return {kind: stats.get(kind, 0) for kind in ("GET metadata", "GET bin-images")}


def check_whole(workspace, summary):
    """Every bin of the manifest is in its shard, once, with its own photo."""
    settings = Settings(workspace, "", workspace)
    manifest = Manifest.read(settings.manifests, summary["manifest"])
    assert len({record.id for record in manifest.records}) == len(manifest.records) == summary["bins"]
    for record in manifest.records:
        with (settings.shards / manifest.shards[record.shard].name).open("rb") as file:
            example = decode_example(read_record(file, record.offset))
        assert example["id"] == record.id.encode()
        assert b"bin " + record.id.encode() in example["image"][:30]
    assert sorted(path.name for path in settings.shards.glob("*.tfrecord")) == sorted(
        shard.name for shard in manifest.shards
    )


def kill_and_finish(server, workspace, moments, calm):
    """Kills an ingest at each moment in turn, then lets it finish; returns how often it was killed in time."""
    before, killed = fetched(server), 0
    for moment_s in moments:
        with subprocess.Popen(command(server, workspace), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
            try:
                one.wait(timeout=moment_s)
            except subprocess.TimeoutExpired:
                os.kill(one.pid, signal.SIGKILL)
                killed += 1
    assert run(server, workspace) == calm
    check_whole(workspace, calm)
    after = fetched(server)
    # A kill costs the open shard (some 130 photos), what was under way to it, and metadata not yet written.
    again = {kind: after[kind] - before[kind] - 2000 for kind in after}
    assert again["GET bin-images"] <= killed * (140 + 64)
    assert again["GET metadata"] <= killed * (64 + 64)
    return killed


def test_a_killed_ingest_goes_on_to_the_same_manifest(server, tmp_path):
    server.set(latency_ms=0)
    calm = run(server, tmp_path / "calm")
    check_whole(tmp_path / "calm", calm)
    server.set(latency_ms=20)
    assert kill_and_finish(server, tmp_path / "killed", [2.0, 2.5], calm) > 0
    server.set(latency_ms=0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_at_random_lose_nothing(server, tmp_path):
    calm = run(server, tmp_path / "calm")
    server.set(latency_ms=20)
    chance = random.Random(int.from_bytes(os.urandom(4), "big"))
    killed = 0
    for number in range(5):
        moments = [chance.uniform(0.5, 4.0) for _ in range(4)]
        killed += kill_and_finish(server, tmp_path / str(number), moments, calm)
    server.set(latency_ms=0)
    assert killed >= 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_kill_of_a_troubled_ingest_loses_nothing(server, tmp_path):
    calm = run(server, tmp_path / "calm")
    server.set(busy=0.2, short=0.05, reset=0.05)
    try:
        for number, moment_s in enumerate((1.5, 3.0, 6.0)):
            with subprocess.Popen(command(server, tmp_path / str(number))) as one:
                time.sleep(moment_s)
                os.kill(one.pid, signal.SIGKILL)
            assert run(server, tmp_path / str(number)) == calm
            check_whole(tmp_path / str(number), calm)
    finally:
        server.set(busy=0, short=0, reset=0)


def test_shares_fetched_at_once_give_the_manifest_of_one(server, tmp_path):
    server.set(latency_ms=0)
    calm = run(server, tmp_path / "calm")
    before = fetched(server)
    shared = tmp_path / "shared"
    planned = run(server, shared, "plan")
    server.set(latency_ms=40)
    shares = [{"plan": planned["plan"], "share": f"{number}/3"} for number in (1, 2, 3)]
    started = [
        subprocess.Popen(command(server, shared, "fetch", **share), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for share in shares
    ]
    # One is killed while it writes its second shard; the others are not disturbed, and it goes on by itself.
    deadline = time.monotonic() + 60
    while not len(list(shared.glob("shards/*.tfrecord"))) > len(shares):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(started[1].pid, signal.SIGKILL)
    answers = [one.communicate(timeout=120)[0] for one in started]
    assert [one.returncode for one in started] == [0, -signal.SIGKILL, 0]
    again = run(server, shared, "fetch", **shares[1])
    server.set(latency_ms=0)
    written = [json.loads(answers[0])["shards"], again["shards"], json.loads(answers[2])["shards"]]
    assert again["shards"] > 0
    assert planned["shards"] - planned["shards"] // 3 <= sum(written) <= planned["shards"]
    # What joins them fetches nothing: neither a photo nor metadata.
    asked = fetched(server)
    assert run(server, shared) == calm
    check_whole(shared, calm)
    assert fetched(server) == asked
    assert asked["GET metadata"] - before["GET metadata"] == 2000
    assert asked["GET bin-images"] - before["GET bin-images"] <= 2000 + 140 + 64


def test_two_at_once_are_one(server, tmp_path):
    both = [
        subprocess.Popen(command(server, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    answers = [json.loads(one.communicate(timeout=120)[0]) for one in both]
    assert answers[0] == answers[1]
    check_whole(tmp_path, answers[0])


# A process's peak begins with that of whoever starts it, and pytest may have TensorFlow loaded: so this one does.
PEAK_KB = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_does_not_grow_with_the_bucket(tmp_path):
    peaks = []
    for bins in (1_000, 50_000):
        with run_server(bins=bins, photo_bytes=3000) as running:
            asked = command(running, tmp_path / str(bins), shard_bytes=100_000_000)
            peaks.append(int(subprocess.check_output([sys.executable, "-c", PEAK_KB, *asked])) * 1024)
    assert max(peaks) < 600e6
    assert peaks[1] - peaks[0] < 150e6
