"""A workspace in a bucket and two machines: what one has finished the other goes on from, and nothing is done twice."""

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from bincount.dataset.manifest import Manifest
from bincount.errors import StoreError
from bincount.learn.prepare import prepare
from bincount.learn.train import train
from bincount.outcomes.outcome_store import OutcomeStore
from bincount.store.bucket_workspace import BucketWorkspace
from bincount.tracking import champion, model_registry, runs
from tests.faults.machines import (
    CHUNKS,
    FETCHING,
    FLAGS,
    FOUND,
    NETWORK,
    SMALL_SHARDS,
    calls,
    files,
    ingested,
    keys,
    make_settings_of,
    open_reconciliation,
    prepared_run,
    put,
)
from tests.learn.bins import write_bins
from tests.processes import wait_until
from tests.reconcile.reconciled import registered
from tests.simulated import kept_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SHARE = "bincount.dataset.shards:ShardIndex.share"


def test_a_bucket_holds_what_a_folder_holds(place, bins, calm):
    client, bucket, machine = place
    first, second = machine("first", **SMALL_SHARDS), machine("second", **SMALL_SHARDS)
    planned, _ = first.run("plan", "--source", bins)
    first.run("fetch", "--plan", planned["plan"], "--share", "1/2")
    second.run("fetch", "--plan", planned["plan"], "--share", "2/2")
    answer, said = first.run("ingest", "--source", bins)
    assert ingested(answer) == calm
    assert not re.search(FETCHING, said)
    assert sorted(name.rpartition(".")[2] for name in keys(client, bucket, "manifests")) == ["csv", "json", "jsonl"]
    shared = second.shared
    shared.pull_folder(second.settings.shards)
    manifest = Manifest.read(first.settings.manifests, answer["manifest"])
    for shard in manifest.shards:
        there = (second.settings.shards / shard.name).read_bytes()
        assert there == (Path(bins).parent / "calm" / "shards" / shard.name).read_bytes()


@pytest.mark.parametrize("clock_s", [0, -600, 600])
def test_a_killed_fetch_goes_on_elsewhere(place, bins, calm, tmp_path, clock_s):
    """With clocks that are ten minutes apart too."""
    client, bucket, machine = place
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(
        f"import time\n_now, _ns = time.time, time.time_ns\ntime.time = lambda: _now() + {clock_s}\n"
        f"time.time_ns = lambda: _ns() + {clock_s} * 10**9\n"
    )
    first = machine("first", **SMALL_SHARDS)
    second = machine("second", python_path=[tmp_path / "clock"], **SMALL_SHARDS)
    planned, _ = first.run("plan", "--source", bins)
    first.killed("fetch", "--plan", planned["plan"], moment=SHARE, nth=4)
    assert len(keys(client, bucket, "shards")) == 2 * 3, "three shards, each with its index"
    began = time.monotonic()
    answer, said = second.run("ingest", "--source", bins)
    assert time.monotonic() - began < 60
    assert ingested(answer) == calm
    assert "the lease of" in said
    assert int(re.search(FETCHING, said)[1]) == planned["shards"] - 3


def test_who_slept_past_its_lease_publishes_nothing(place, bins, calm):
    client, bucket, machine = place
    first, second = machine("first", **SMALL_SHARDS), machine("second", **SMALL_SHARDS)
    planned, _ = first.run("plan", "--source", bins)
    sleeper = first.start("fetch", "--plan", planned["plan"], moment=SHARE, nth=2, stopped=True)
    try:
        wait_until(lambda: Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "asleep")
        answer, _ = second.run("ingest", "--source", bins)
        before = {name: client.head_object(Bucket=bucket, Key=f"work/{name}")["ETag"] for name in keys(client, bucket)}
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    _, said = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 4, said
    assert "did not renew its lease for 3 s" in said
    assert said.rstrip().splitlines()[-2].endswith("Nothing more was written; run again.")
    assert ingested(answer) == calm
    assert before == {
        name: client.head_object(Bucket=bucket, Key=f"work/{name}")["ETag"] for name in keys(client, bucket)
    }
    assert first.run("fetch", "--plan", planned["plan"])[0] == {"shards": 0}, "it runs again, as it was told"


def test_a_damaged_copy_is_no_reason_to_fetch_a_shard_again(place, bins, calm):
    _, _, machine = place
    first = machine("first", **SMALL_SHARDS)
    answer, _ = first.run("ingest", "--source", bins)
    shard = first.settings.shards / Manifest.read(first.settings.manifests, answer["manifest"]).shards[0].name
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + b"?")
    again, said = first.run("ingest", "--source", bins)
    assert ingested(again) == calm
    assert not re.search(FETCHING, said)
    second = machine("second")
    second.shared.pull(second.settings.shards / shard.name)
    assert (second.settings.shards / shard.name).read_bytes() == whole


def test_a_killed_extraction_goes_on_elsewhere(place, tmp_path):
    _, _, machine = place
    first, second = machine("first"), machine("second")
    run_id, manifest = prepared_run(first)
    words = ("prepare", f"--run-id={run_id}", f"--manifest={manifest}", *FLAGS)
    first.killed(*words, moment="bincount.learn.feature_extraction:write_features", nth=3)
    answer, said = second.run(*words)
    assert re.findall(r"features: (\d+ of \d+) photos", said)[-1] == "20 of 20", "the third shard, and no other"
    folder = make_settings_of(first)
    write_bins(folder.workspace, bins=60)
    assert answer == prepare(folder, run_id=runs.open_run(folder), manifest=manifest, **NETWORK)
    arrays = {path.name: np.load(path) for path in folder.features.rglob("*.npy") if "." not in path.stem}
    second.shared.pull_folder(second.settings.features)
    assert len(arrays) == 3
    for name, wanted in arrays.items():
        (found,) = second.settings.features.rglob(name)
        np.testing.assert_array_equal(np.load(found), wanted)


def test_a_killed_fine_tuning_goes_on_elsewhere(place, tmp_path):
    client, bucket, machine = place
    first, second = machine("first"), machine("second")
    run_id, manifest = prepared_run(first)
    folder = make_settings_of(first)
    write_bins(folder.workspace, bins=60)
    calm_run = runs.open_run(folder)
    features = prepare(folder, run_id=calm_run, manifest=manifest, **NETWORK)["features"]
    note = {"features": features, "best": FOUND}
    for place_of, run in ((first.settings, run_id), (folder, calm_run)):
        (place_of.run(run) / "search").mkdir(parents=True)
        (place_of.run(run) / "search" / "best.json").write_text(json.dumps(note))
    put(first)
    first.run("prepare", f"--run-id={run_id}", f"--manifest={manifest}", *FLAGS)
    words = ("train", f"--run-id={run_id}", f"--features={features}", "--fine-tune-epochs=4")
    epoch = "bincount.learn.network_training:_State.add"
    first.killed(*words, moment=epoch, nth=3)
    assert [Path(name).suffix for name in keys(client, bucket, f"runs/{run_id}/whole")] == [".npz"]
    answer, said = second.run(*words, moment=epoch)
    assert calls(said) == 2, "the third epoch and the fourth"
    undisturbed = train(folder, run_id=calm_run, features=features, fine_tune_epochs=4)
    assert {**answer, "model": ""} == {**undisturbed, "model": ""}
    assert not keys(client, bucket, f"runs/{run_id}/whole")
    facts = [json.loads((each.run(run) / "model" / "model.json").read_text())
             for each, run in ((second.settings, run_id), (folder, calm_run))]  # fmt: skip
    assert facts[0] == facts[1]


def test_a_killed_reconciliation_goes_on_elsewhere(place, tmp_path):
    client, bucket, machine = place
    first, second = machine("first", **CHUNKS), machine("second", **CHUNKS)
    words, undisturbed = open_reconciliation(tmp_path, first)
    score = "bincount.reconcile.scoring:_score"
    first.killed(*words, f"--out={tmp_path / 'out'}", moment=score, nth=4)
    answer, said = second.run(*words, f"--out={tmp_path / 'out'}", moment=score)
    assert "continuing from another worker's snapshot" in said
    assert calls(said) == 3, "the last two of five chunks, and an empty one at the end"
    assert files(tmp_path / "out") == undisturbed
    assert answer["bins"] == 80
    assert not keys(client, bucket, "reconciles")


def test_promotions_on_two_machines(place):
    """At once, and after a machine that died while it moved the champion."""
    _, _, machine = place
    first, second = machine("first"), machine("second")
    settings = make_settings_of(first)
    for seed in (1, 2, 3, 4):
        registered(settings, seed=seed)
    promote = ("--force", "--reason=it counts better")
    running = [each.start("promote", version, *promote) for each, version in ((first, 1), (second, 2))]
    for process in running:
        process.communicate(timeout=120)
    assert {process.returncode for process in running} <= {0, 4}
    moves = champion.champion_moves(settings)
    assert [move.instead_of for move in moves] == [None, *(move.champion for move in moves)][:-1]
    assert len(moves) == [process.returncode for process in running].count(0) >= 1
    assert model_registry.alias(settings, model_registry.CHAMPION) == moves[-1].champion

    first.killed("promote", 3, *promote, moment="mlflow:MlflowClient.set_registered_model_alias")
    answer, said = second.run("promote", 4, *promote)
    assert answer["promoted"]
    assert "the lease of" in said
    assert model_registry.alias(settings, model_registry.CHAMPION) == "4"


def test_counts_that_could_not_be_shared_are_shared_by_the_next_import(place, monkeypatch):
    _, _, machine = place
    first, second = machine("first"), machine("second")
    origin, rows = kept_rows(1, bins=30)

    def gone(self, *paths):
        raise StoreError("the bucket is gone")

    store = OutcomeStore(first.settings)
    with monkeypatch.context() as away, store.locked():
        away.setattr(BucketWorkspace, "push", gone)
        with pytest.raises(StoreError, match="the bucket is gone"):
            store.add(origin, rows)
    assert OutcomeStore(second.settings).read() == {}
    with store.locked():
        assert store.add(origin, rows) == 0
    assert OutcomeStore(second.settings).read() == store.read() != {}
