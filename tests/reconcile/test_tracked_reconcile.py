"""A reconciliation kept in MLflow, and what it says when photos are no longer what they were."""

import json
import logging
from pathlib import Path

import pytest

from bincount.errors import ConfigError, StoreError
from bincount.evaluate.drift_baseline import FILE
from bincount.outcomes.import_outcomes import import_outcomes
from bincount.reconcile.reconcile import reconcile
from bincount.tracking import model_registry
from bincount.tracking.client import RECONCILE_EXPERIMENT, mlflow_client
from tests.reconcile.reconciled import FILES, darkened, read_lists, registered, write_like_learned, write_records
from tests.stores import make_settings

ATTEMPT = "manual__2026-11-22T05:00:00+00:00"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return make_settings(tmp_path_factory.mktemp("inventory"))


@pytest.fixture(scope="module")
def model(settings):
    return registered(settings, sharpness=4.0)


def runs_of(settings):
    with mlflow_client(settings, "tests") as client:
        experiment = client.get_experiment_by_name(RECONCILE_EXPERIMENT)
        return client.search_runs([experiment.experiment_id]) if experiment else []


def test_photos_like_those_learned_do_not_drift(settings, model, tmp_path):
    source = write_like_learned(tmp_path / "bins")
    reconcile(settings, source=source, model=model, out=str(tmp_path / "out"))
    _, _, summary = read_lists(tmp_path / "out")
    drift = summary["drift"]
    assert drift["beyond"] == []
    assert drift["compared"] == 100
    assert set(drift["facts"]) == {
        *("predicted", "recorded", "confidence", "width", "height", "brightness", "sharpness", "features")
    }
    assert "No drift" in (tmp_path / "out" / "report.html").read_text()


def test_darker_photos_drift_and_everything_says_so(settings, model, tmp_path, caplog):
    source = write_like_learned(tmp_path / "bins", darkened)
    with caplog.at_level(logging.WARNING):
        answer = reconcile(settings, track=True, source=source, model=model, capacity=7, blind=False)
    beyond = answer["drift"]["beyond"]
    assert {"brightness", "features"} <= set(beyond)
    assert not {"recorded", "width", "height"} & set(beyond)
    assert f"drift: {', '.join(beyond)}." in answer["says"]
    assert "drift: brightness is " in caplog.text
    with mlflow_client(settings, "tests") as client:
        run = client.get_run(answer["run_id"])
        page = Path(client.download_artifacts(answer["run_id"], "reconcile/report.html", str(tmp_path))).read_text()
        listed = {each.path for each in client.list_artifacts(answer["run_id"], "reconcile")}
    assert listed == {f"reconcile/{name}" for name in FILES}
    assert "differ from the model's test bins:</strong> " in page
    metrics = run.data.metrics
    for name, fact in answer["drift"]["facts"].items():
        assert metrics[f"drift/{name}"] == fact["psi"]
        assert (name in beyond) == (fact["psi"] > fact["limit"])
    assert (metrics["bins"], metrics["to_count"], run.data.params["capacity"]) == (100, 7, "7")
    assert run.info.status == "FINISHED"
    assert run.data.params["model_version"] == answer["model_version"]


def test_bins_that_the_model_learned_from_are_not_compared(settings, model, tmp_path):
    """They are what the reference was not made of: it may know them by heart."""
    from bincount.dataset.split import part_of

    source = write_like_learned(tmp_path / "bins")
    version = model.rpartition("/")[2]
    with mlflow_client(settings, "tests") as client:
        client.set_model_version_tag(model_registry.MODEL, version, "bincount.source", source)
    try:
        reconcile(settings, source=source, model=model, out=str(tmp_path / "out"))
    finally:
        with mlflow_client(settings, "tests") as client:
            client.set_model_version_tag(model_registry.MODEL, version, "bincount.source", "s3://aft-vbi-pds")
    _, _, summary = read_lists(tmp_path / "out")
    fresh = sum(part_of(f"{number:05d}") == "test" for number in range(30_000, 30_100))
    assert summary["drift"]["compared"] == fresh < 100


def test_a_version_without_a_reference_says_so(settings, model, tmp_path, caplog, monkeypatch):
    source = write_like_learned(tmp_path / "bins", bins=5)
    fetch = model_registry.fetch_model

    def without(*arguments):
        folder = fetch(*arguments)
        (folder / FILE).unlink()
        return folder

    monkeypatch.setattr(model_registry, "fetch_model", without)
    answer = reconcile(settings, track=True, source=source, model=model)
    assert answer["drift"] is None
    assert "drift unknown" in answer["says"]
    assert "Run `bincount evaluate` and `bincount register` for its run again" in caplog.text
    page = (settings.run(answer["run_id"]) / "reconcile" / "report.html").read_text()
    assert "registered without a drift baseline" in page


def test_a_retry_finds_its_run_and_goes_on_with_its_version(settings, model, tmp_path, monkeypatch):
    source = write_like_learned(tmp_path / "bins", bins=20)
    settings.records.mkdir(parents=True, exist_ok=True)
    rows = [(f"{number:05d}", 3) for number in range(30_000, 30_020)]
    write_records(settings.records / "stock.csv", rows)
    from bincount.tracking import runs

    def breaks(*_):
        raise StoreError("the tracking server went away")

    asked = {"source": source, "records": "stock.csv", "attempt": ATTEMPT}
    with monkeypatch.context() as patch:
        patch.setattr(runs, "log_artifacts", breaks)
        with pytest.raises(StoreError, match="went away"):
            reconcile(settings, track=True, model=model, **asked)
    (run,) = [each for each in runs_of(settings) if each.data.tags.get("bincount.attempt") == ATTEMPT]
    assert run.info.status == "FAILED"
    place = settings.run(run.info.run_id) / "reconcile"
    made = (place / "summary.json").stat().st_mtime_ns
    with mlflow_client(settings, "tests") as client:  # the champion has changed meanwhile
        other = registered(settings, seed=5).rpartition("/")[2]
        client.set_registered_model_alias(model_registry.MODEL, model_registry.CHAMPION, other)
    again = reconcile(settings, track=True, **asked)
    assert again["run_id"] == run.info.run_id
    assert again["model_version"] == model.rpartition("/")[2] != other
    assert (place / "summary.json").stat().st_mtime_ns == made
    assert again["records"] == "stock.csv"
    assert json.loads(json.dumps(again, allow_nan=False)) == again


@pytest.mark.parametrize("name", ["absent.csv", "../stock.csv", "/etc/passwd", ".", "a/b.csv"])
def test_only_files_of_the_records_folder_are_read(settings, model, name, tmp_path):
    (settings.records / "a").mkdir(parents=True, exist_ok=True)
    (settings.records / "a" / "b.csv").write_text("id,recorded\n")
    (settings.workspace / "stock.csv").write_text("id,recorded\n")
    before = len(runs_of(settings))
    with pytest.raises(
        ConfigError, match=r"^records: must (name a file in the workspace's folder records|be a text that is not empty)"
    ):
        reconcile(settings, track=True, source=str(tmp_path), records=name, model=model)
    assert len(runs_of(settings)) == before


def test_without_a_champion_it_says_what_to_do(tmp_path):
    fresh = make_settings(tmp_path)
    with pytest.raises(ConfigError, match=r"@champion must name a version, got none. Promote one"):
        reconcile(fresh, track=True, source=str(tmp_path))
    assert not runs_of(fresh)


def test_counts_of_a_tracked_worklist_join_its_run(settings, model, tmp_path):
    source = write_like_learned(tmp_path / "bins", bins=20)
    first = reconcile(settings, track=True, source=source, model=model, attempt="first")["run_id"]
    last = reconcile(settings, track=True, source=source, model=model, attempt="last", capacity=5)["run_id"]
    settings.records.mkdir(parents=True, exist_ok=True)
    write_records(settings.records / "counts.csv", [("30000", 1, "2026-11-20")], ("id", "counted", "when"))
    assert import_outcomes(settings, file="counts.csv", track=True)["run_id"] == last
    assert import_outcomes(settings, file="counts.csv", track=True, worklist=first)["run_id"] == first
    with mlflow_client(settings, "tests") as client:
        metrics = client.get_run(last).data.metrics
        assert metrics["outcomes/bins"] == 1
        facts = {"coverage", "brier", "found"}
        assert metrics.keys() >= {f"decay/{name}{end}" for name in facts for end in ("", "_expected", "_p_value")}
        listed = {each.path for each in client.list_artifacts(last, "reconcile")}
    assert {"reconcile/outcomes.json", "reconcile/confirmed.csv"} <= listed
    assert (settings.records / "confirmed.csv").read_text().startswith("id,location,counted,when,photo\n30000,")
    for wrong in ({"file": "../counts.csv"}, {"file": "none.csv"}, {"worklist": "../x"}, {"worklist": "0" * 32}):
        with pytest.raises(ConfigError):
            import_outcomes(settings, **{"file": "counts.csv", "track": True, **wrong})
