"""Runs on a real SQLite tracking store."""

import os
import socket
import subprocess
import sys
import time

import pytest

from bincount.errors import ConfigError, StoreError
from bincount.settings import Settings
from bincount.tracking import runs
from bincount.tracking.client import mlflow_client
from tests.processes import free_ports


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    place = tmp_path_factory.mktemp("mlruns")
    return Settings(
        workspace=place / "data",
        tracking_uri=f"sqlite:///{place / 'deep' / 'mlflow.db'}",
        artifacts=place / "artifacts",
    )


def run_of(settings, run_id):
    with mlflow_client(settings, "test") as client:
        return client.get_run(run_id)


def test_an_attempt_has_one_run_however_often_it_is_opened(settings):
    attempt = "manual__2026-11-22T08:00:00+00:00"
    first = runs.open_run(settings, attempt=attempt)
    runs.log_tags(settings, first, {"dag": "train_bin_counter"})
    runs.finish_run(settings, first, "FAILED")
    assert runs.open_run(settings, attempt=attempt) == first
    run = run_of(settings, first)
    assert run.info.status == "RUNNING"
    assert run.data.tags["dag"] == "train_bin_counter"
    assert run.data.tags["mlflow.source.git.commit"]
    assert run.data.tags["mlflow.source.name"] == "bincount"
    assert run.data.tags["mlflow.user"]
    with mlflow_client(settings, "test") as client:
        assert client.get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
    assert runs.open_run(settings, attempt=attempt + "x") != first


def test_runs_without_an_attempt_are_new(settings):
    assert runs.open_run(settings) != runs.open_run(settings)


def test_a_trial_is_nested_and_found_again(settings):
    run_id, other = runs.open_run(settings), runs.open_run(settings)
    trial = runs.open_trial(settings, run_id, "trial 1")
    assert runs.open_trial(settings, run_id, "trial 1") == trial
    others = {runs.open_trial(settings, run_id, "trial 2"), runs.open_trial(settings, other, "trial 1")}
    assert len({trial, *others}) == 3
    assert run_of(settings, trial).data.tags["mlflow.parentRunId"] == run_id
    assert run_of(settings, trial).info.run_name == "trial 1"


def test_what_is_logged_can_be_read_back(settings, tmp_path):
    from matplotlib.figure import Figure

    run_id = runs.open_run(settings)
    for _ in range(2):  # a retried step logs the same again
        runs.log_params(settings, run_id, {f"p{i}": i for i in range(150)})
        runs.log_dataset(settings, run_id, digest="0123456789abcdef", source="s3://aft-vbi-pds")
    runs.log_metrics(settings, run_id, {f"m{i}": i / 2 for i in range(1200)})
    for epoch, nll in enumerate([1.5, 1.4, 1.3]):
        runs.log_metrics(settings, run_id, {"val_nll": nll}, step=epoch)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("hello")
    runs.log_artifacts(settings, run_id, tmp_path, "files")
    runs.log_dict(settings, run_id, {"exact": 0.35}, "evaluation/evaluation.json")
    runs.log_figures(settings, run_id, {"evaluation/figure.png": Figure()})
    runs.finish_run(settings, run_id)

    run = run_of(settings, run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["p149"] == "149"
    assert run.data.metrics["m1199"] == 599.5
    assert [bins.dataset.digest for bins in run.inputs.dataset_inputs] == ["0123456789abcdef"]
    assert runs.run_tags(settings, run_id)["p7"] == "7"
    with mlflow_client(settings, "test") as client:
        curve = [(point.step, point.value) for point in client.get_metric_history(run_id, "val_nll")]
    assert curve == [(0, 1.5), (1, 1.4), (2, 1.3)]
    files = {str(path.relative_to(settings.artifacts)) for path in settings.artifacts.rglob("*") if path.is_file()}
    assert {
        f"{run_id}/artifacts/{name}"
        for name in ("files/a/b.txt", "evaluation/evaluation.json", "evaluation/figure.png")
    } <= files


def test_the_machine_is_watched_while_the_block_lasts(settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    run_id = runs.open_run(settings)
    with runs.watch_machine(settings, run_id):
        time.sleep(1)
    assert "system/cpu_utilization_percentage" in run_of(settings, run_id).data.metrics


def test_a_parameter_cannot_change(settings):
    run_id = runs.open_run(settings)
    runs.log_params(settings, run_id, {"fit": "pad"})
    with pytest.raises(ConfigError, match=r"params of run \w+: MLflow must accept it, got .*fit"):
        runs.log_params(settings, run_id, {"fit": "squash"})


def test_an_unknown_run_is_the_callers_fault(settings):
    with pytest.raises(ConfigError, match="metrics of run 0123"):
        runs.log_metrics(settings, "0123", {"nll": 1.0})
    with pytest.raises(ConfigError, match="open trial"):
        runs.open_trial(settings, "0123", "trial 1")


@pytest.mark.parametrize("attempt", ["it's", 'a "b"', "a`b"])
def test_quotes_do_not_reach_the_filter(settings, attempt):
    with pytest.raises(ConfigError, match="must be without quotes"):
        runs.open_run(settings, attempt=attempt)


def test_a_folder_is_no_tracking_store(tmp_path):
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI: must be http://HOST:PORT or sqlite:///FILE"):
        runs.open_run(Settings(tmp_path, str(tmp_path / "mlruns"), tmp_path))


def test_a_database_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="must be readable and writable"):
        runs.open_run(Settings(tmp_path, f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path))


def test_a_server_that_refuses_is_given_up_at_once(tmp_path):
    uri = f"http://127.0.0.1:{free_ports(1)[0]}"
    start = time.monotonic()
    with pytest.raises(StoreError, match=f"the tracking server at {uri} must answer"):
        runs.open_run(Settings(tmp_path, uri, tmp_path))
    assert time.monotonic() - start < 10


def test_a_server_that_hangs_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("bincount.tracking.client._TIMEOUT_S", 1)
    runs.open_run(
        Settings(tmp_path, f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    )  # imports MLflow before the clock runs
    with socket.create_server(("127.0.0.1", 0)) as listener:  # connects, and never answers
        start = time.monotonic()
        with pytest.raises(StoreError, match="must answer"):
            runs.open_run(Settings(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path))
    # Twice the timeout and MLflow's pause between: with the real 9 s it is about 20 s.
    assert time.monotonic() - start < 2 + 4


def test_nothing_is_told_to_mlflows_makers(tmp_path):
    """In a process of its own: MLflow is silent in tests anyway."""
    code = (
        "from pathlib import Path; from bincount.tracking import runs; from bincount.settings import Settings\n"
        f"runs.open_run(Settings(Path(), 'sqlite:///{tmp_path}/mlflow.db', Path({str(tmp_path)!r})))\n"
        "from mlflow.telemetry.client import get_telemetry_client; assert get_telemetry_client() is None"
    )
    loud = {name: value for name, value in os.environ.items() if "PYTEST" not in name and name not in _SILENCERS}
    done = subprocess.run([sys.executable, "-c", code], env=loud, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_SILENCERS = {"CI", "GITHUB_ACTIONS", "BUILDKITE", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"}
