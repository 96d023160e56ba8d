"""Two at once: nothing is written twice into the same place, and both end with the same.

Two ingests of the same bins: tests/steps/test_ingest_faults.py; two promotions: tests/steps/test_moving.py; two
reconciliations: tests/steps/test_reconcile.py; two runs of a DAG: tests/faults/test_stack.py.
"""

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from bincount.core.errors import StoreError
from bincount.edge import tracking
from bincount.edge.disk import alone
from bincount.steps.prepared import read_prepared
from tests.learn.bins import write_bins
from tests.stores import make_settings


def test_the_second_waits_for_the_first(tmp_path, caplog):
    caplog.set_level("INFO")
    order = []

    def second():
        with alone(tmp_path / "a.lock", "features"):
            order.append("second")

    with alone(tmp_path / "a.lock", "features"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "features: waiting, another process does the same" in caplog.text


def test_patience_ends(tmp_path):
    with (
        alone(tmp_path / "a.lock", "champion"),
        pytest.raises(StoreError, match=r"champion: must be done by one at a time, got another"),
        alone(tmp_path / "a.lock", "champion", patience_s=0.1),
    ):
        pass


@pytest.mark.slow
def test_two_extractions_of_the_same_features(tmp_path):
    settings = make_settings(tmp_path)
    manifest = write_bins(settings.workspace, bins=400)
    runs = [tracking.open_run(settings) for _ in range(2)]
    flags = [f"--manifest={manifest}", "--backbone=MobileNetV3Small", "--weights=none", "--image-px=32"]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "bincount", "prepare", f"--run-id={run_id}", *flags],
            env={**os.environ, **settings.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for run_id in runs
    ]
    said = [one.communicate(timeout=1200) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    answers = [json.loads(answer) for answer, _ in said]
    assert answers[0] == answers[1]
    computed = ["nothing is left to compute" not in log for _, log in said]
    assert computed.count(True) == 1, "one computes, the other waits and finds it done"
    features = read_prepared(settings, answers[0]["prepared"]).examples("train").features
    assert np.isfinite(features).all()
    assert not list(settings.features.rglob("*.partial"))
