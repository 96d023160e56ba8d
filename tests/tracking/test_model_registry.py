"""The same over HTTP: a run, its artifacts, a version and its aliases on a real MLflow server."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import bincount.serving
from bincount.settings import Settings
from bincount.tracking import champion, model_registry, runs
from bincount.tracking.client import mlflow_client
from tests.processes import free_ports
from tests.stores import make_settings
from tests.tiny import photo, write_model

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path):
    """Settings that name a server, which keeps and serves the artifacts itself."""
    database = make_settings(tmp_path).tracking_uri
    port = free_ports(1)[0]
    command = [Path(sys.executable).with_name("mlflow"), "server", "--backend-store-uri", database, "--workers", "1"]
    command += ["--artifacts-destination", tmp_path / "served", "--host", "127.0.0.1", "--port", str(port)]
    quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=quiet, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
    try:
        until = time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 http
                break
            assert time.monotonic() < until, (tmp_path / "server.log").read_text()
            time.sleep(0.5)
        yield Settings(tmp_path / "data", url, tmp_path / "unused")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def test_a_server_does_what_a_database_does(settings, tmp_path):
    run_id = runs.open_run(settings, attempt="manual__1")
    assert runs.open_run(settings, attempt="manual__1") == run_id
    trial = runs.open_trial(settings, run_id, "trial 1")
    assert runs.open_trial(settings, run_id, "trial 1") == trial
    runs.log_params(settings, run_id, {"fit": "pad"})
    runs.log_metrics(settings, run_id, {"nll": 1.5}, step=3)
    runs.log_dict(settings, run_id, {"exact": 0.3}, "evaluation/evaluation.json")
    fetched = runs.fetch_artifacts(settings, run_id, "evaluation", tmp_path / "fetched")
    assert (fetched / "evaluation.json").is_file()

    write_model(tmp_path / "model")
    package = model_registry.Package(
        code=Path(bincount.serving.__file__).with_name("mlflow_model.py"),
        model=tmp_path / "model",
        requirements=["mlflow==3.17.2"],
        example=photo(),
        metadata={},
        params={"image_px": 32},
        metrics={"test_exact": 0.4},
        dataset="0" * 16,
    )
    runs.log_dataset(settings, run_id, digest="0" * 16, source="s3://bins")
    version = model_registry.register(settings, run_id, package, {"bincount.model": "0"}, "Counts.")
    with mlflow_client(settings, "the model") as client:
        logged = client.get_logged_model(client.get_model_version("bincount", version).tags["bincount.logged_model"])
        assert logged.params == {"image_px": "32"}
        assert [(one.key, one.value, one.dataset_digest) for one in logged.metrics] == [("test_exact", 0.4, "0" * 16)]
        later = runs.open_run(settings)
        runs.link_version(settings, later, version)
        assert [one.model_id for one in client.get_run(later).inputs.model_inputs] == [logged.model_id]
    assert model_registry.alias(settings, "champion") is None
    champion.move_champion(settings, version, instead_of=None, actor="ada", reason="it is the first")
    assert model_registry.alias(settings, "champion") == version
    assert [(move.champion, move.actor) for move in champion.champion_moves(settings)] == [(version, "ada")]
    assert [made.version for made in model_registry.versions_of_run(settings, run_id)] == [version]
    model = model_registry.fetch_model(settings, version, tmp_path / "champion")
    assert (model / "model.keras").read_bytes() == (tmp_path / "model" / "model.keras").read_bytes()
    assert not (tmp_path / "unused").exists()
