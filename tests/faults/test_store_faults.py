"""A workspace's bucket that fails: gone or busy for a while, full, or closed to us midway.

Retries are those of a user; only the outage is shorter than a minute.
"""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from bincount.learn.prepare import prepare
from bincount.learn.train import train
from bincount.tracking import runs
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
from tests.s3_proxy import run_proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DENIED = "must be readable and writable, got access denied (403 AccessDenied). Give the credentials the right to"
FULL = "must have room, got 507 XMinioStorageFull. Free some room or raise its quota, then run again; what was finished"
QUOTA = "must have room, got 403 QuotaExceeded. Free some room"
GONE_S = 5


@pytest.fixture
def proxy(moto_endpoint):
    with run_proxy(moto_endpoint) as running:
        yield running


def check_ended(failed, told):
    code, said = failed
    assert code == 2
    assert told in said


@pytest.mark.parametrize(("how", "for_s"), [("gone", GONE_S), ("busy", 3)])
def test_a_fetch_outlives_a_bucket_that_is_away(place, bins, calm, proxy, how, for_s):
    _, _, machine = place
    first = machine("first", proxy.endpoint, **SMALL_SHARDS)
    proxy.latency_s = 0.02
    planned, _ = first.run("plan", "--source", bins)
    rule = proxy.fail(how, "PUT .*/shards/", since=3, for_s=for_s)
    began = time.monotonic()
    fetched, _ = first.run("fetch", "--plan", planned["plan"])
    assert time.monotonic() - began > for_s
    assert rule.hit > 0
    assert fetched == {"shards": planned["shards"]}
    assert ingested(first.run("ingest", "--source", bins)[0]) == calm


@pytest.mark.parametrize(("how", "told"), [("denied", DENIED), ("full", FULL), ("quota", QUOTA)])
def test_a_fetch_that_may_not_write_ends_at_a_whole_shard(place, bins, calm, proxy, how, told):
    client, bucket, machine = place
    first = machine("first", proxy.endpoint, **SMALL_SHARDS)
    planned, _ = first.run("plan", "--source", bins)
    proxy.fail(how, "PUT .*/shards/.*json", since=3)
    check_ended(first.failed("fetch", "--plan", planned["plan"]), told)
    kept = keys(client, bucket, "shards")
    assert len([name for name in kept if name.endswith(".json")]) == 2
    assert {Path(name).stem for name in kept if name.endswith(".json")} < {Path(name).stem for name in kept}
    assert keys(client, bucket, "manifests") == []
    answer, said = machine("second", **SMALL_SHARDS).run("ingest", "--source", bins)
    assert ingested(answer) == calm
    assert int(re.search(FETCHING, said)[1]) == planned["shards"] - 2


def test_an_extraction(place, proxy):
    client, bucket, machine = place
    first, second = machine("first", proxy.endpoint), machine("second", proxy.endpoint)
    run_id, manifest = prepared_run(first)
    words = ("prepare", f"--run-id={run_id}", f"--manifest={manifest}", *FLAGS)
    arrays = r"PUT .*/features/[^/]+/[0-9a-f]{16}\.npy"
    rule = proxy.fail("denied", arrays, since=2)
    check_ended(first.failed(*words), DENIED)
    kept = [Path(name) for name in keys(client, bucket, "features") if "backbone" not in name]
    assert sorted(name.suffix for name in kept) == [".json", ".npy"], "one shard, and no note that all are there"
    proxy.rules.remove(rule)
    rule = proxy.fail("gone", arrays, for_s=GONE_S)
    answer, said = second.run(*words)
    assert rule.hit == 1
    assert re.findall(r"features: (\d+ of \d+) photos", said)[-1] == "40 of 40", "the two that were not shared"
    folder = make_settings_of(first)
    write_bins(folder.workspace, bins=60)
    assert answer == prepare(folder, run_id=runs.open_run(folder), manifest=manifest, **NETWORK)
    for wanted in folder.features.rglob("[0-9a-f]*.npy"):
        (found,) = second.settings.features.rglob(wanted.name)
        np.testing.assert_array_equal(np.load(found), np.load(wanted))


def test_a_fine_tuning(place, proxy):
    client, bucket, machine = place
    first, second = machine("first", proxy.endpoint), machine("second", proxy.endpoint)
    run_id, manifest = prepared_run(first)
    folder = make_settings_of(first)
    write_bins(folder.workspace, bins=60)
    calm_run = runs.open_run(folder)
    features = prepare(folder, run_id=calm_run, manifest=manifest, **NETWORK)["features"]
    for settings, run in ((first.settings, run_id), (folder, calm_run)):
        (settings.run(run) / "search").mkdir(parents=True)
        (settings.run(run) / "search" / "best.json").write_text(json.dumps({"features": features, "best": FOUND}))
    put(first)
    first.run("prepare", f"--run-id={run_id}", f"--manifest={manifest}", *FLAGS)
    words = ("train", f"--run-id={run_id}", f"--features={features}", "--fine-tune-epochs=3")
    rule = proxy.fail("full", "PUT .*/whole/", since=2)
    check_ended(first.failed(*words), FULL)
    assert not keys(client, bucket, f"runs/{run_id}/model")
    proxy.rules.remove(rule)
    rule = proxy.fail("gone", "PUT .*/whole/", for_s=GONE_S)
    answer, said = second.run(*words, moment="bincount.learn.network_training:_State.add")
    assert rule.hit == 1
    assert calls(said) == 2, "the first epoch was shared, the second was not"
    undisturbed = train(folder, run_id=calm_run, features=features, fine_tune_epochs=3)
    assert {**answer, "model": ""} == {**undisturbed, "model": ""}


def test_a_reconciliation(place, proxy, tmp_path):
    client, bucket, machine = place
    first, second = (machine(name, proxy.endpoint, **CHUNKS) for name in ("first", "second"))
    words, undisturbed = open_reconciliation(tmp_path, first)
    rule = proxy.fail("denied", r"PUT .*\.snapshot", since=4)
    check_ended(first.failed(*words, f"--out={tmp_path / 'out'}"), DENIED)
    assert files(tmp_path / "out") == {}
    proxy.rules.remove(rule)
    rule = proxy.fail("gone", r"PUT .*\.snapshot", for_s=GONE_S)
    _, said = second.run(*words, f"--out={tmp_path / 'out'}", moment="bincount.reconcile.scoring:_score")
    assert rule.hit == 1
    assert "continuing from another worker's snapshot" in said
    assert calls(said) < 6
    assert files(tmp_path / "out") == undisturbed
    assert not keys(client, bucket, "reconciles")
