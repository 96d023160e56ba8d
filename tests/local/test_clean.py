"""`bincount clean`: it frees what nothing needs, and nothing else."""

import argparse
import json
import os
import shutil
import threading
import time

import pytest

from bincount.counts import Counts
from bincount.dataset.manifest import Manifest, Record, Shard
from bincount.errors import ConfigError, StoreError
from bincount.local import clean as module
from bincount.local.clean import _entries, clean, find_entries
from bincount.settings import Settings

OLD = time.time() - 3 * 86_400


@pytest.fixture(scope="module")
def mlflow_runs(tmp_path_factory):
    """MLflow's database with a run of each kind, and the runs' ids."""
    from mlflow import MlflowClient

    root = tmp_path_factory.mktemp("mlruns")
    uri = f"sqlite:///{root}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("bins", artifact_location=str(root / "artifacts"))
    runs = {name: client.create_run(experiment).info.run_id for name in ("served", "running", "ended", "deleted")}
    for name in ("served", "ended"):
        client.set_terminated(runs[name])
    client.delete_run(runs["deleted"])
    client.create_registered_model("bincount")
    client.create_model_version("bincount", str(root / "artifacts" / "model"), run_id=runs["served"])
    return uri, runs


@pytest.fixture
def checkout(tmp_path, monkeypatch, mlflow_runs):
    """A workspace with needed and loose parts of each kind, all three days old."""
    uri, runs = mlflow_runs
    settings = Settings(tmp_path / "data", uri, tmp_path / "mlruns" / "artifacts")
    for name, run_id in runs.items():
        write(settings.run(run_id) / "prepare.json", json.dumps({"folder": f"features-{name}"}))
        write(settings.features / f"features-{name}" / "part.npy", "x" * 1000)
    record = Record("1", "1", 2, "test", 1, 3, 3, 9, "", 0, 0)
    Manifest("s3://bins", Counts.parse("1-5"), [Shard("named.tfrecord", "0", 1)], [record]).write(settings.manifests)
    for name in ("named", "loose"):
        write(settings.shards / f"{name}.tfrecord", "x")
        write(settings.shards / f"{name}.json", "{}")
    write(settings.manifests / "cut.jsonl.damaged", "x")
    write(settings.ingests / "request" / "plan.jsonl", "x")
    write(settings.outcomes / "0123456789abcdef.jsonl", "x")  # what people counted is never loose
    write(tmp_path / ".airflow" / "logs" / "dag_id=train_bin_counter" / "run_id=1" / "attempt=1.log", "x")
    write(tmp_path / ".airflow" / "secrets.json", "x")
    for path in tmp_path.rglob("*"):
        os.utime(path, (OLD, OLD))
    monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    monkeypatch.setenv("BINCOUNT_WORKSPACE", str(settings.workspace))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
    return tmp_path, settings, runs


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def loose_of(checkout, days=1.0):
    root, settings, runs = checkout
    items = find_entries(settings, home=root / ".airflow", mlruns=root / "mlruns", days=days)
    names = {run_id: name for name, run_id in runs.items()}
    return sorted(names.get(item.path.name, item.path.name) for item in items if not item.needed_for)


LOOSE = ["cut.jsonl.damaged", "deleted", "ended", "features-deleted", "features-ended"]
LOOSE += ["loose.json", "loose.tfrecord", "request", "run_id=1"]


def test_only_what_no_version_or_run_needs_is_loose(checkout):
    assert loose_of(checkout) == LOOSE


def test_what_was_written_lately_is_kept(checkout):
    assert loose_of(checkout, days=4) == []
    _, settings, _ = checkout
    os.utime(settings.features / "features-ended" / "part.npy")
    assert loose_of(checkout) == [name for name in LOOSE if name != "features-ended"]


def test_a_worklist_whose_counts_may_still_come_is_kept(checkout):
    _, settings, runs = checkout
    summary = settings.run(runs["ended"]) / "reconcile" / "summary.json"
    write(summary, "{}")
    for days, is_kept in ((3, True), (29, True), (31, False)):
        at = time.time() - days * 86_400
        for path in (summary, summary.parent, settings.run(runs["ended"])):
            os.utime(path, (at, at))
        assert ("ended" not in loose_of(checkout)) is is_kept, days


def test_files_that_a_running_step_removes_meanwhile_are_left_out(checkout):
    _, settings, runs = checkout
    folder, has_ended = settings.run(runs["running"]), threading.Event()
    for number in range(500):
        write(folder / f"{number}", "x")

    def work():
        while not has_ended.is_set():
            write(folder / "part" / ".file", "x")
            shutil.rmtree(folder / "part")

    step = threading.Thread(target=work)
    step.start()
    try:
        for _ in range(40):
            assert [item.path for item in _entries([folder], OLD, lambda _: "")] == [folder]
    finally:
        has_ended.set()
        step.join()


def test_it_only_shows_until_it_is_told(checkout, capsys):
    root, settings, runs = checkout
    before = sorted(root.rglob("*"))
    clean(argparse.Namespace(yes=False, days=1.0))
    shown = json.loads(capsys.readouterr().out)
    assert sorted(root.rglob("*")) == before
    assert shown["free_bytes"] > 2000
    assert not shown["freed"]

    clean(argparse.Namespace(yes=True, days=1.0))
    assert json.loads(capsys.readouterr().out)["freed"]
    assert loose_of(checkout) == []
    assert (settings.run(runs["served"]) / "prepare.json").exists()
    assert (settings.features / "features-running" / "part.npy").exists()
    assert (settings.shards / "named.tfrecord").exists()
    assert not (settings.features / "features-ended").exists()
    assert (root / ".airflow" / "secrets.json").exists()


@pytest.mark.parametrize("days", [-1.0, float("nan"), float("-inf")])
def test_days_that_would_free_what_a_step_is_using_are_refused(checkout, days):
    _, settings, runs = checkout
    with pytest.raises(ConfigError, match="--days: must be a number >= 0, got"):
        clean(argparse.Namespace(yes=True, days=days))
    assert (settings.run(runs["ended"]) / "prepare.json").exists()


def test_nothing_is_freed_where_mlflow_does_not_answer(checkout, monkeypatch):
    root, settings, runs = checkout
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"runs and versions: the tracking server at .* must answer"):
        clean(argparse.Namespace(yes=True, days=1.0))
    assert (settings.run(runs["ended"]) / "prepare.json").exists()
    assert root.exists()
