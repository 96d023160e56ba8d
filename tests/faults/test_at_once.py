"""Two at once: nothing is written twice into the same place, and both end with the same.

Two ingests of the same bins: tests/dataset/test_ingest_faults.py; two promotions: tests/registry/test_promotion.py; two
reconciliations: tests/reconcile/test_reconcile.py; two runs of a DAG: tests/faults/test_stack.py.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from bincount.dataset.manifest import Manifest
from bincount.errors import StoreError
from bincount.learn.feature_cache import read_features
from bincount.locks import exclusive_lock
from bincount.tracking import runs
from tests.learn.bins import write_bins
from tests.processes import wait_until
from tests.stores import make_settings


def test_the_second_waits_for_the_first(tmp_path, caplog):
    caplog.set_level("INFO")
    order = []

    def second():
        with exclusive_lock(tmp_path / "a.lock", "features"):
            order.append("second")

    with exclusive_lock(tmp_path / "a.lock", "features"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "features: waiting, another process does the same" in caplog.text


def test_patience_ends(tmp_path):
    with (
        exclusive_lock(tmp_path / "a.lock", "champion"),
        pytest.raises(StoreError, match=r"champion: must be done by one at a time, got another"),
        exclusive_lock(tmp_path / "a.lock", "champion", timeout_s=0.1),
    ):
        pass


def extraction(settings, manifest, run_id, *flags):
    """Starts `bincount prepare` of a manifest's bins."""
    network = ["--backbone=MobileNetV3Small", "--weights=none", "--image-px=32"]
    return subprocess.Popen(
        [sys.executable, "-m", "bincount", "prepare", f"--run-id={run_id}", f"--manifest={manifest}", *network, *flags],
        env={**os.environ, **settings.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_extractions_of_the_same_features(tmp_path):
    settings = make_settings(tmp_path)
    manifest = write_bins(settings.workspace, bins=400)
    both = [extraction(settings, manifest, runs.open_run(settings)) for _ in range(2)]
    said = [one.communicate(timeout=1200) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    answers = [json.loads(answer) for answer, _ in said]
    assert answers[0] == answers[1]
    computed = ["nothing is left to compute" not in log for _, log in said]
    assert computed.count(True) == 1, "one computes, the other waits and finds it done"
    features = read_features(settings, answers[0]["features"]).examples("train").features
    assert np.isfinite(features).all()
    assert not list(settings.features.rglob("*.partial"))


@pytest.mark.slow
def test_shares_of_an_extraction_one_of_them_killed(tmp_path):
    settings = make_settings(tmp_path)
    manifest, run_id = write_bins(settings.workspace, bins=3000, shards=4), runs.open_run(settings)
    shares = [extraction(settings, manifest, run_id, f"--share={number}/2") for number in (1, 2)]
    victim = Manifest.read(settings.manifests, manifest).shards[1].sha256[:16]
    wait_until(lambda: any(settings.features.glob(f"*/{victim}.partial")), "the second share computes", 300)
    shares[1].kill()
    said = [one.communicate(timeout=1200) for one in shares]
    assert shares[0].returncode == 0, said
    assert shares[1].returncode == -signal.SIGKILL
    again = extraction(settings, manifest, run_id, "--share=2/2")
    answer, log = again.communicate(timeout=1200)
    assert again.returncode == 0, log
    assert json.loads(answer) == json.loads(said[0][0])
    assert "building" not in log, "which network it is was decided once"

    (tmp_path / "calm").mkdir()
    calm = make_settings(tmp_path / "calm")
    write_bins(calm.workspace, bins=3000, shards=4)
    alone_, log = extraction(calm, manifest, runs.open_run(calm)).communicate(timeout=1200)
    assert json.loads(alone_) == json.loads(answer), log
    arrays = sorted(path.relative_to(settings.features) for path in settings.features.glob("*/*.npy"))
    assert arrays == sorted(path.relative_to(calm.features) for path in calm.features.glob("*/*.npy"))
    assert len(arrays) == 4
    for path in arrays:
        np.testing.assert_array_equal(np.load(settings.features / path), np.load(calm.features / path))
