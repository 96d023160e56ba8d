"""The search: reproducible, resumed, never fooled by a failed trial."""

import json

import keras_tuner
import numpy as np
import pytest

from bincount.errors import DataError, StoreError
from bincount.learn import search
from bincount.learn.feature_extraction import Examples
from bincount.learn.head_training import FittedHead
from bincount.learn.search import search_fine_tuning, search_heads

# KerasTuner 1.4.8 names its threads as Python 2 did.
pytestmark = pytest.mark.filterwarnings("ignore:(currentThread|getName)\\(\\) is deprecated:DeprecationWarning")

NOTHING = Examples(np.zeros((4, 2, 3), np.float16), np.zeros(4, np.int32))


@pytest.fixture
def training(monkeypatch):
    """Stands in for the training of a head: a known cost, so that the search alone is looked at."""
    ran = []

    def cost(train, validation, classes, hyperparameters, *, seed, on_epoch):
        ran.append(hyperparameters)
        if cost.fails(len(ran)):
            raise cost.error
        value = abs(np.log10(hyperparameters.learning_rate) + 3)
        on_epoch(0, {"loss": value, "nll": value, "val_nll": value})
        return FittedHead(None, 1, value)

    cost.fails, cost.error, cost.ran = (lambda number: False), ValueError("out of luck"), ran
    monkeypatch.setattr(search, "fit_head", cost)
    return cost


def run(folder, **changed):
    settings = {"data": "data", "trials": 4, "max_epochs": 10, "seed": 0, **changed}
    return search_heads(folder, NOTHING, NOTHING, 5, **settings)


def test_the_best_completed_trial_is_found(training, tmp_path):
    ended = []
    found = run(tmp_path, on_trial=lambda *told: ended.append(told))
    assert found.trials == len(training.ran) == len(ended) == 4
    assert found.val_nll == min(score for _, _, _, score in ended)
    assert found.val_nll == pytest.approx(abs(np.log10(found.best.learning_rate) + 3))
    assert all(1e-4 <= tried.learning_rate <= 1e-2 and 2 <= tried.epochs <= 10 for tried in training.ran)
    assert {tried.batch_size for tried in training.ran} <= {32, 64, 128, 256}


def test_seed_zero_is_a_seed(training, tmp_path):
    first, again = run(tmp_path / "a"), run(tmp_path / "b")
    assert first == again
    assert training.ran[:4] == training.ran[4:]
    run(tmp_path / "c", seed=1)
    assert training.ran[8:] != training.ran[:4]


def test_a_failed_trial_is_recorded_and_never_the_best(training, tmp_path):
    training.fails = lambda number: number in {1, 3}
    ended = []
    found = run(tmp_path, on_trial=lambda *told: ended.append(told))
    assert [status for _, _, status, _ in ended] == ["FAILED", "COMPLETED", "FAILED", "COMPLETED"]
    assert found.trials == 4
    assert found.best in (training.ran[1], training.ran[3])


@pytest.mark.parametrize("trials", [1, 5])
def test_no_completed_trial_is_a_clear_error(training, tmp_path, trials):
    training.fails = lambda number: True
    with pytest.raises(DataError, match=f"one trial of {trials} at least must end well.*ValueError: out of luck"):
        run(tmp_path, trials=trials)
    assert len(training.ran) == trials


def test_a_trial_that_ends_in_nan_is_a_failed_one(training, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "fit_head", lambda *a, **k: FittedHead(None, 1, float("nan")))
    with pytest.raises(DataError, match="val_nll must be finite, got nan"):
        run(tmp_path)


class Killed(BaseException):
    """Stands for kill -9: nothing of the code around a trial runs after it."""


@pytest.mark.parametrize("kind", ["random", "bayesian", "grid"])
def test_a_killed_search_goes_on_where_it_was(training, tmp_path, kind):
    expected = run(tmp_path / "undisturbed", kind=kind)
    undisturbed = list(training.ran)
    training.ran.clear()
    training.fails, training.error = (lambda number: number == 3), Killed()
    with pytest.raises(Killed):
        run(tmp_path / "killed", kind=kind)
    training.fails = lambda number: False
    ended = []
    assert run(tmp_path / "killed", kind=kind, on_trial=lambda *told: ended.append(told)) == expected
    assert training.ran == [*undisturbed[:3], *undisturbed[2:]]
    assert [trial for trial, _, _, _ in ended] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("kind", ["random", "bayesian", "grid"])
@pytest.mark.parametrize("ended", [1, 3])
def test_a_search_killed_between_two_trials_goes_on_with_the_next(training, tmp_path, monkeypatch, kind, ended):
    """KerasTuner writes the trial's file before its own: a kill between the two leaves a trial nobody began."""
    expected, undisturbed = run(tmp_path / "undisturbed", kind=kind), list(training.ran)
    training.ran.clear()
    oracle = keras_tuner.Oracle
    saved = oracle._save_trial

    def save(self, trial):
        saved(self, trial)
        if len(self.end_order) == ended and trial.status == "RUNNING" and trial.trial_id not in self.end_order:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(oracle, "_save_trial", save)
        with pytest.raises(Killed):
            run(tmp_path / "killed", kind=kind)
    assert len(training.ran) == ended
    assert run(tmp_path / "killed", kind=kind) == expected
    assert training.ran == undisturbed


def test_a_grid_is_spread_and_ends_when_all_is_tried(training, tmp_path):
    few = run(tmp_path / "few", kind="grid", trials=5)
    assert few.trials == 5
    assert all(len({getattr(one, name) for one in training.ran}) > 1 for name in ("learning_rate", "batch_size"))
    training.ran.clear()
    assert run(tmp_path / "all", kind="grid", max_epochs=2, trials=1000).trials == len(set(training.ran)) == 5 * 4 * 2


def test_a_bayesian_search_follows_what_it_found(training, tmp_path, monkeypatch):
    run(tmp_path / "one", kind="bayesian", trials=6)
    assert len(set(training.ran)) == 6
    cost = search.fit_head
    # Its sign turned: what was best is worst.
    monkeypatch.setattr(
        search, "fit_head", lambda *a, **k: (found := cost(*a, **k))._replace(val_nll=2 - found.val_nll)
    )
    run(tmp_path / "other", kind="bayesian", trials=6)
    assert training.ran[:3] == training.ran[6:9]  # at random
    assert training.ran[3:6] != training.ran[9:]


@pytest.mark.parametrize("kind", ["bayesian", "grid"])
def test_every_kind_goes_on_after_failed_trials_and_says_when_none_ended_well(training, tmp_path, kind):
    training.fails = lambda number: number in {1, 3}
    statuses = []
    run(tmp_path / "some", kind=kind, trials=6, on_trial=lambda *told: statuses.append(told[2]))
    assert statuses == ["FAILED", "COMPLETED", "FAILED", *["COMPLETED"] * 3]
    training.fails = lambda number: True
    with pytest.raises(DataError, match="one trial of 6 at least must end well"):
        run(tmp_path / "none", kind=kind, trials=6)


@pytest.mark.parametrize("kind", ["random", "grid"])  # "bayesian" has the space of "random"
def test_what_is_asked_for_is_searched_too(training, tmp_path, kind):
    run(tmp_path, kind=kind, trials=6, also=("dropout", "units", "loss_mix"))
    assert len({tried.units for tried in training.ran}) > 1
    assert len({tried.dropout for tried in training.ran}) > 1
    assert len({tried.loss_mix for tried in training.ran}) > 1
    assert all(0 <= tried.loss_mix <= 0.7 and 0 <= tried.dropout <= 0.7 for tried in training.ran)
    training.ran.clear()
    found = run(tmp_path, kind=kind, loss_mix=0.25)
    assert found.best.loss_mix == 0.25
    assert {(tried.units, tried.dropout, tried.loss_mix) for tried in training.ran} == {(128, 0.5, 0.25)}


def test_a_state_cut_short_starts_the_search_again(training, tmp_path):
    expected = run(tmp_path)
    (state,) = tmp_path.glob("*/oracle.json")
    state.write_text(state.read_text()[:50])
    assert run(tmp_path) == expected
    assert len(training.ran) == 8


@pytest.mark.parametrize(
    "changed",
    [{"data": "other"}, {"max_epochs": 20}, {"seed": 1}, {"trials": 5}, {"kind": "bayesian"}, {"loss_mix": 0.1}],
)
def test_another_search_starts_afresh(training, tmp_path, changed):
    run(tmp_path)
    run(tmp_path, **changed)
    assert len(training.ran) == 4 + changed.get("trials", 4)


def test_a_finished_search_runs_nothing(training, tmp_path):
    assert run(tmp_path) == run(tmp_path)
    assert len(training.ran) == 4


def test_a_tracking_server_that_is_down_stops_the_search_and_fails_no_trial(training, tmp_path):
    def down(trial, epoch, metrics):
        raise StoreError("tracking: must answer, got nothing. Start it.")

    with pytest.raises(StoreError, match="tracking: must answer"):
        run(tmp_path, on_epoch=down)
    ended = []
    assert run(tmp_path, on_trial=lambda *told: ended.append(told)).trials == 4
    assert {status for _, _, status, _ in ended} == {"COMPLETED"}


def test_no_weights_and_no_pickles_are_kept(training, tmp_path):
    run(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json"}
    for path in files:
        json.loads(path.read_text())


def test_nothing_is_printed_where_results_belong(training, tmp_path, capsys):
    run(tmp_path)
    run(tmp_path)
    assert capsys.readouterr().out == ""


def fine_tunings(folder, cost, **changed):
    """Searches with a fine-tuning that costs what `cost(values, epoch)` says; gives the answer and what was tried."""
    tried, told = [], []

    def fit(values, watch):
        tried.append(dict(values))
        for epoch in range(values["epochs"]):
            watch(epoch, {"val_nll": cost(values, epoch)})
        return cost(values, values["epochs"] - 1)

    settings = {"data": "data", "trials": 4, "max_epochs": 6, "minutes": 10, "seed": 0, **changed}
    answer = search_fine_tuning(folder, fit, on_trial=lambda *what: told.append(what), **settings)
    return answer, tried, told


def off(values, epoch):
    return 1.3 + abs(np.log10(values["learning_rate"] / 7e-4)) + 0.1 / (1 + epoch)


def test_the_best_fine_tuning_is_found_and_kept_over_a_new_start(tmp_path):
    (trials, best, val_nll), tried, told = fine_tunings(tmp_path, off)
    assert trials == len(tried) == len(told) == 4
    assert best in tried
    assert val_nll == min(score for *_, score in told)
    assert all(1e-4 <= each["learning_rate"] <= 2e-3 and 3 <= each["epochs"] <= 6 for each in tried)
    again, tried, _ = fine_tunings(tmp_path, off)
    assert again == (trials, best, val_nll)
    assert not tried


def test_a_trial_that_falls_behind_ends_early(tmp_path):
    epochs = []

    def cost(values, epoch):
        epochs.append(epoch)
        return 1.0 if not epochs[:-1] or len([each for each in epochs if each == 0]) == 1 else 2.0

    (trials, _, val_nll), tried, _ = fine_tunings(tmp_path, cost)
    assert (trials, val_nll) == (4, 1.0)
    assert len(epochs) < sum(each["epochs"] for each in tried)


def test_a_search_that_goes_on_compares_its_trials_with_those_before_the_kill(tmp_path):
    def killed(values, epoch):
        if epoch == 1 and begun[-1] != values:
            raise Killed
        if not begun:
            begun.append(values)
        return 1.0

    begun = []
    with pytest.raises(Killed):
        fine_tunings(tmp_path, killed)
    epochs = []

    def worse(values, epoch):
        epochs.append(epoch)
        return 2.0

    (trials, best, val_nll), tried, _ = fine_tunings(tmp_path, worse)
    assert (trials, best, val_nll) == (4, begun[0], 1.0)
    assert len(tried) == 3
    assert epochs == 3 * [0, 1], "each ends after the fewest epochs"


def test_no_trial_begins_after_the_minutes_are_spent(tmp_path):
    (trials, best, _), tried, _ = fine_tunings(tmp_path, off, minutes=0)
    assert trials == len(tried) == 1
    assert best == tried[0]


def test_a_tracking_server_that_is_down_ends_the_search(tmp_path):
    def broken(values, epoch):
        raise StoreError("MLflow is away")

    with pytest.raises(StoreError, match="away"):
        fine_tunings(tmp_path, broken)
