"""kill -9 of each step at its worst moment: the next attempt ends as if nothing had been.

Of plan, fetch and ingest: tests/dataset/test_ingest_faults.py; in the middle of an extraction, a search, an epoch and a
reconciliation: tests/learn/test_feature_extraction.py, tests/learn/test_tune.py,
tests/learn/test_network_training.py and tests/reconcile/test_reconcile.py.
"""

import json

import numpy as np
import pytest

from bincount.evaluate.evaluate import evaluate, read_evaluation
from bincount.learn.prepare import prepare
from bincount.learn.train import train
from bincount.learn.tune import tune
from bincount.reconcile.reconcile import reconcile
from bincount.registry.promotion import promote, rollback
from bincount.registry.register import register
from bincount.tracking import champion, model_registry, runs
from tests.evaluate.trained import open_trained_run, write_manifest
from tests.faults.dying import killed
from tests.learn.bins import write_bins
from tests.learn.featured import open_prepared_run
from tests.reconcile.reconciled import registered, write_source
from tests.stores import make_settings

pytestmark = [
    pytest.mark.slow,
    # KerasTuner 1.4.8 names its threads as Python 2 did.
    pytest.mark.filterwarnings(r"ignore:(currentThread|getName)\(\) is deprecated:DeprecationWarning"),
]
FOUND = {"learning_rate": 2e-2, "batch_size": 32, "epochs": 6, "units": 16, "dropout": 0.1}


@pytest.fixture
def settings(tmp_path):
    return make_settings(tmp_path)


def files(folder):
    """Files of a folder, but for locks and what an unfinished attempt has left to itself."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    "moment",
    [
        "bincount.learn.prepare:_save_network",
        "bincount.learn.feature_extraction:write_features",
        "bincount.learn.prepare:write_json",
    ],
)
def test_prepare(settings, moment, tmp_path):
    manifest, run_id = write_bins(settings.workspace, bins=60), runs.open_run(settings)
    network = {"backbone": "MobileNetV3Small", "weights": "none", "image_px": 32}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in network.items()]
    killed(settings, moment, "prepare", f"--run-id={run_id}", f"--manifest={manifest}", *flags)
    answer = prepare(settings, run_id=run_id, manifest=manifest, **network)
    (tmp_path / "calm").mkdir()
    calm = make_settings(tmp_path / "calm")
    write_bins(calm.workspace, bins=60)
    undisturbed = prepare(calm, run_id=runs.open_run(calm), manifest=manifest, **network)
    assert answer == undisturbed
    arrays = {name: content for name, content in files(settings.features).items() if name.endswith(".npy")}
    wanted = {name: content for name, content in files(calm.features).items() if name.endswith(".npy")}
    assert arrays.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(np.load(settings.features / name), np.load(calm.features / name))


def test_tune_after_the_last_trial(settings):
    run_id, prepared = open_prepared_run(settings)
    words = ("tune", f"--run-id={run_id}", f"--features={prepared}", "--trials=2", "--max-epochs=5")
    killed(settings, "bincount.learn.tune:write_json", *words)
    assert not (settings.run(run_id) / "search" / "best.json").exists()
    answer = tune(settings, run_id=run_id, features=prepared, trials=2, max_epochs=5)
    assert answer["trials"] == 2
    assert answer == tune(settings, run_id=runs.open_run(settings), features=prepared, trials=2, max_epochs=5)


def test_train_while_the_model_is_written(settings):
    run_id, prepared = open_prepared_run(settings)
    folder = settings.run(run_id)
    (folder / "search").mkdir(parents=True)
    (folder / "search" / "best.json").write_text(json.dumps({"features": prepared, "best": FOUND}))
    words = ("train", f"--run-id={run_id}", f"--features={prepared}")
    for moment in ("bincount.learn.model:assemble", "pathlib:Path.rename"):
        killed(settings, moment, *words)
        assert not (folder / "model").exists()
    answer = train(settings, run_id=run_id, features=prepared)
    assert {path.name for path in (folder / "model").iterdir()} == {
        *("model.keras", "model.xml", "model.bin", "model.engine.json", "model.json", "sums.json"),
    }
    assert not (folder / "model.beside").exists()
    assert train(settings, run_id=run_id, features=prepared) == answer


def test_evaluate_while_it_is_logged_and_register_half_way(settings):
    run_id = open_trained_run(settings, write_manifest(settings))
    place = settings.run(run_id)
    for moment in ("bincount.tracking.runs:log_metrics", "bincount.tracking.runs:log_artifacts"):
        killed(settings, moment, "evaluate", f"--run-id={run_id}")
        assert not (place / "evaluation").exists()
    answer = evaluate(settings, run_id=run_id)
    assert read_evaluation(settings, run_id)[0]["metrics"] == answer["metrics"]
    assert not (place / "evaluation.beside").exists(), "what the killed attempts had begun is gone"

    # Uploaded and not registered; registered and not yet the challenger.
    for moment, versions in (
        ("bincount.tracking.model_registry:_create_model", []),
        ("bincount.tracking.model_registry:set_challenger", ["1"]),
    ):
        killed(settings, moment, "register", f"--run-id={run_id}")
        assert [one.version for one in model_registry.versions_of_run(settings, run_id)] == versions
        assert model_registry.alias(settings, model_registry.CHALLENGER) is None
    assert register(settings, run_id=run_id) == {"model_version": "1", "model_uri": "models:/bincount/1"}
    assert model_registry.alias(settings, model_registry.CHALLENGER) == "1"
    assert [one.version for one in model_registry.versions_of_run(settings, run_id)] == ["1"]


def test_promote_and_rollback_between_note_and_move(settings):
    for seed in (1, 2):
        registered(settings, seed=seed)
    promote(settings, model_version="1", force=True, reason="the first")
    words = ("promote", "2", "--force", "--reason=the second")
    killed(settings, "mlflow:MlflowClient.set_registered_model_alias", *words)
    assert model_registry.alias(settings, model_registry.CHAMPION) == "1", "noted and not moved"
    killed(settings, "bincount.registry.promotion:write_result", *words)
    assert model_registry.alias(settings, model_registry.CHAMPION) == "2", "moved and not told"
    answer = promote(settings, model_version="2", force=True, reason="the second")
    assert answer["promoted"]
    assert model_registry.version_of(settings, "2").tags["bincount.promoted"] == "true"
    assert model_registry.alias(settings, model_registry.PREVIOUS) == "1"
    # A move that was begun twice is listed twice; none is missing.
    assert [(move.champion, move.instead_of) for move in champion.champion_moves(settings)] == [
        ("1", None),
        ("2", "1"),
        ("2", "1"),
    ]

    killed(settings, "bincount.tracking.champion:move_champion", "rollback", "--reason=it counts tape")
    assert model_registry.alias(settings, model_registry.CHAMPION) == "2"
    assert rollback(settings, reason="it counts tape")["model_version"] == "1"
    assert not promote(settings, model_version="2")["promoted"], "what was rolled back stays out"


def test_reconcile_while_its_files_are_written(settings, tmp_path):
    model, folder, out = registered(settings), tmp_path / "bins", tmp_path / "out"
    write_source(folder)
    words = ("reconcile", f"--source={folder}", f"--model={model}", f"--out={out}")
    killed(settings, "bincount.reconcile.report:render_report", *words)
    assert not [path for path in out.iterdir() if not path.name.startswith(".")]
    reconcile(settings, source=str(folder), model=model, out=str(out))
    reconcile(settings, source=str(folder), model=model, out=str(tmp_path / "calm"))
    assert files(out) == files(tmp_path / "calm")
