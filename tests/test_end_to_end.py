"""From a bucket to a served prediction: what `make up` runs, on the sample bins, in a copy of the checkout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local.test_up import free_ports

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy, so that the state of this checkout, its champion above all, is left alone."""
    place = tmp_path_factory.mktemp("checkout")
    for folder in ("bincount", "dags"):
        shutil.copytree(ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def bincount(checkout, *arguments, timeout_s=60):
    kept = ("PATH", "HOME", "LANG", "SSL_CERT_FILE")
    return subprocess.run(
        [sys.executable, "-m", "bincount", *arguments],
        cwd=checkout,
        env={name: os.environ[name] for name in kept if name in os.environ},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


@pytest.mark.timeout(900)
def test_bins_in_a_bucket_become_a_served_prediction(checkout):
    flags = [
        f"--{name}-port={port}"
        for name, port in zip(("airflow", "mlflow", "model", "bucket"), free_ports(4), strict=True)
    ]
    done = bincount(checkout, "up", "--once", *flags, timeout_s=880)
    assert done.returncode == 0, done.stdout + done.stderr
    for task in ("ingest", "prepare", "tune", "train", "evaluate", "register", "promote", "verify_serving"):
        assert f"{task}" in done.stdout
    assert "promoted: true" in done.stdout
    assert "serves version 1" in done.stdout

    # The same answers without a server, from what the run left behind.
    photo = sorted((checkout / "data" / "sample" / "bin-images").iterdir())[0]
    predicted = bincount(checkout, "predict", str(photo))
    assert predicted.returncode == 0, predicted.stderr
    (answer,) = json.loads(predicted.stdout)["predictions"]
    assert list(answer["probabilities"]) == ["1", "2", "3", "4", "5"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert answer["confidence"] == max(answer["probabilities"].values())
