"""From a bucket to a served prediction: what `make up` runs, on the sample bins, in a copy of the checkout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import free_ports

ROOT = Path(__file__).parents[1]

# What must be found nowhere afterwards. The bucket of `make up` takes any credentials.
SECRETS = {
    "AWS_ACCESS_KEY_ID": "PLANTEDKEYID00000001",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-key-2",
    "AWS_SESSION_TOKEN": "planted-session-token-3",
    "DATABASE_PASSWORD": "planted-password-4",
}


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
        env={name: os.environ[name] for name in kept if name in os.environ} | SECRETS,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def check_no_secret(checkout, said):
    """Looks through all that the run has left: logs, both databases, XComs among them, artifacts, reports."""
    own = json.loads((checkout / ".airflow" / "secrets.json").read_text())
    wanted = {name: value.encode() for name, value in {**SECRETS, **own}.items()}
    paths = [path for path in checkout.rglob("*") if path.is_file() and path.name != "secrets.json"]
    found = [
        f"{name} in {path.relative_to(checkout)}"
        for path in paths
        for content in [path.read_bytes()]
        for name, value in wanted.items()
        if value in content
    ]
    assert not found
    assert not [name for name, value in wanted.items() if value.decode() in said]
    assert {"airflow.db", "mlflow.db", "card.html"} <= {path.name for path in paths}, "what was looked through"
    assert [path for path in paths if "dag_id=train_bin_counter" in str(path)]


@pytest.mark.timeout(900)
def test_bins_in_a_bucket_become_a_served_prediction(checkout):
    flags = [
        f"--{name}-port={port}"
        for name, port in zip(("airflow", "mlflow", "model", "bucket"), free_ports(4), strict=True)
    ]
    done = bincount(checkout, "up", "--once", *flags, timeout_s=880)
    assert done.returncode == 0, done.stdout + done.stderr
    check_no_secret(checkout, done.stdout + done.stderr)
    for task in ("ingest", "prepare", "tune", "train", "evaluate", "register", "promote", "verify_serving"):
        assert f"{task}" in done.stdout
    assert "version 1: Promoted: " in done.stdout
    assert "serves version 1" in done.stdout

    # The same answers without a server, from what the run left behind.
    photo = sorted((checkout / "data" / "sample" / "bin-images").iterdir())[0]
    predicted = bincount(checkout, "predict", str(photo))
    assert predicted.returncode == 0, predicted.stderr
    (answer,) = json.loads(predicted.stdout)["predictions"]
    assert list(answer["probabilities"]) == ["1", "2", "3", "4", "5"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert answer["confidence"] == max(answer["probabilities"].values())
