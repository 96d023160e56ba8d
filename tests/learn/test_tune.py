"""The search as a step: nested runs with curves, resumed after a kill, once."""

import signal
import subprocess
import sys
import time

import pytest

from bincount.errors import ConfigError, DataError
from bincount.learn.tune import tune
from bincount.tracking import runs
from bincount.tracking.client import mlflow_client
from tests.learn.featured import open_prepared_run
from tests.stores import make_settings

# KerasTuner 1.4.8 names its threads as Python 2 did.
pytestmark = pytest.mark.filterwarnings(r"ignore:(currentThread|getName)\(\) is deprecated:DeprecationWarning")


@pytest.fixture
def place(tmp_path):
    settings = make_settings(tmp_path)
    return settings, *open_prepared_run(settings)


def trials_of(settings, run_id):
    with mlflow_client(settings, "test") as client:
        experiment = client.get_run(run_id).info.experiment_id
        trials = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
        return {
            run.data.tags["mlflow.runName"]: (
                run.info.status,
                run.data.params,
                [point.value for point in client.get_metric_history(run.info.run_id, "val_nll")],
                run.data.metrics.get("best_val_nll"),
            )
            for run in trials
        }


def test_each_trial_is_a_nested_run_with_its_curve_and_twice_is_once(place):
    settings, run_id, prepared = place
    answer = tune(settings, run_id=run_id, features=prepared, trials=3, max_epochs=12)
    assert answer["trials"] == 3
    assert {"learning_rate", "batch_size", "epochs"} <= set(answer["best"])
    trials = trials_of(settings, run_id)
    assert set(trials) == {"trial 0", "trial 1", "trial 2"}
    for status, params, curve, best in trials.values():
        assert status == "FINISHED"
        assert float(params["learning_rate"]) > 0
        assert len(curve) <= int(params["epochs"]) <= 12
        assert min(curve) == pytest.approx(best)
    assert answer["val_nll"] == min(best for *_, best in trials.values())
    assert answer["val_nll"] < 1.6  # the prior's
    assert tune(settings, run_id=run_id, features=prepared, trials=3, max_epochs=12) == answer
    assert trials_of(settings, run_id) == trials


def test_a_grid_over_more_hyperparameters_is_asked_for_by_name(place):
    settings, run_id, prepared = place
    asked = {"search": "grid", "tune_also": "units,loss_mix", "trials": 2, "max_epochs": 3}
    answer = tune(settings, run_id=run_id, features=prepared, **asked)
    assert answer["best"]["units"] in (32, 64, 128, 256, 512)
    assert answer["best"]["loss_mix"] in (0.0, 0.3, 0.6)
    assert answer["best"]["dropout"] == 0.5
    assert all({"units", "loss_mix"} <= params.keys() for _, params, _, _ in trials_of(settings, run_id).values())
    with pytest.raises(
        ConfigError, match="tune_also: must be some of dropout, units, loss_mix, each once, got 'depth'"
    ):
        tune(settings, run_id=run_id, features=prepared, tune_also="depth")
    with pytest.raises(ConfigError, match="loss_mix: must be a number from 0 to 1, got 2"):
        tune(settings, run_id=run_id, features=prepared, loss_mix=2)


KILLED = """
import sys
from pathlib import Path
from bincount.settings import Settings
from bincount.learn.tune import tune
workspace, uri, artifacts, run_id, prepared = sys.argv[1:]
settings = Settings(workspace=Path(workspace), tracking_uri=uri, artifacts=Path(artifacts))
tune(settings, run_id=run_id, features=prepared, trials=3, max_epochs=25)
"""


@pytest.mark.slow
def test_kill_9_and_again_finds_what_an_undisturbed_search_finds(place):
    settings, run_id, prepared = place
    undisturbed = tune(settings, run_id=runs.open_run(settings), features=prepared, trials=3, max_epochs=25)
    arguments = [str(settings.workspace), settings.tracking_uri, str(settings.artifacts), run_id, prepared]
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stderr=subprocess.DEVNULL) as process:
        wanted = time.monotonic() + 600
        while len(trials_of(settings, run_id)) < 2 and time.monotonic() < wanted:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    trials = trials_of(settings, run_id)
    assert 2 <= len(trials) <= 3
    assert tune(settings, run_id=run_id, features=prepared, trials=3, max_epochs=25) == undisturbed
    assert {status for status, *_ in trials_of(settings, run_id).values()} == {"FINISHED"}


def test_a_search_without_a_good_trial_is_an_error_and_its_trials_are_marked(place, monkeypatch):
    settings, run_id, prepared = place

    def broken(*args, **kwargs):
        raise ValueError("out of luck")

    monkeypatch.setattr("bincount.learn.search.fit_head", broken)
    with pytest.raises(DataError, match="one trial of 2 at least must end well"):
        tune(settings, run_id=run_id, features=prepared, trials=2, max_epochs=5)
    assert [status for status, *_ in trials_of(settings, run_id).values()] == ["FAILED", "FAILED"]


def test_unknown_features_are_refused(place):
    with pytest.raises(ConfigError, match="must be a key that prepare printed"):
        tune(place[0], run_id=place[1], features="0" * 16)
