"""The final training as a step: a whole model or none, once."""

import json

import numpy as np
import pytest

from bincount.errors import ConfigError
from bincount.learn.engine import has_bfloat16
from bincount.learn.predictor import Predictor
from bincount.learn.prepare import prepare
from bincount.learn.train import train
from bincount.learn.tune import tune
from bincount.mismatch.sums import SumsHead
from bincount.tracking import runs
from bincount.tracking.client import mlflow_client
from tests.learn.bins import write_bins
from tests.learn.featured import open_prepared_run
from tests.stores import make_settings
from tests.tiny import photo

FOUND = {"learning_rate": 2e-2, "batch_size": 32, "epochs": 6, "units": 16, "dropout": 0.1}


@pytest.fixture
def place(tmp_path):
    settings = make_settings(tmp_path)
    run_id, prepared = open_prepared_run(settings)
    search = settings.run(run_id) / "search"
    search.mkdir(parents=True)
    (search / "best.json").write_text(json.dumps({"features": prepared, "best": FOUND}))
    return settings, run_id, prepared


def test_a_whole_model_comes_of_it_once_and_the_same_again(place):
    settings, run_id, prepared = place
    prepare_note = {"folder": prepared[:16], "facts": {"manifest": prepared[17:]}, "backbone_choice": "it is in reach"}
    (settings.run(run_id) / "prepare.json").write_text(json.dumps(prepare_note))
    answer = train(settings, run_id=run_id, features=prepared)
    folder = settings.run(run_id) / "model"
    assert {path.name for path in folder.iterdir()} == {
        *("model.keras", "model.json", "model.xml", "model.bin", "model.engine.json", "sums.json")
    }
    facts = json.loads((folder / "model.json").read_text())
    assert facts["counts"] == "1-5"
    assert (facts["fit"], facts["image_px"], facts["backbone"], facts["weights"]) == ("pad", 32, "tiny", "none")
    assert facts["manifest"] == prepared.split("-")[1]
    assert facts["backbone_choice"] == "it is in reach"
    assert facts["engine"] == "OpenVINO on processors, float32" + " and bfloat16" * has_bfloat16()
    assert answer == {"model": run_id, "epochs": facts["epochs"], "val_nll": facts["val_nll"]}
    assert answer["val_nll"] < 1.5
    probabilities = Predictor(folder).predict([photo(items=2), photo(items=4)])
    assert probabilities.shape == (2, 5)

    written = (folder / "model.keras").stat().st_mtime_ns
    assert train(settings, run_id=run_id, features=prepared) == answer
    assert (folder / "model.keras").stat().st_mtime_ns == written

    (folder / "model.json").unlink()  # what a kill before the end leaves is no model
    assert train(settings, run_id=run_id, features=prepared) == answer
    again = Predictor(folder).predict([photo(items=2), photo(items=4)])
    np.testing.assert_array_equal(again, probabilities)

    with mlflow_client(settings, "test") as client:
        run = client.get_run(run_id)
        assert run.data.params["learning_rate"] == "0.02"
        assert len(client.get_metric_history(run_id, "train/val_nll")) >= answer["epochs"]
        assert run.data.metrics["val_nll"] == pytest.approx(answer["val_nll"])


def test_a_model_that_cannot_be_exported_says_which_engine_answers_and_why(place, caplog):
    import keras

    settings, run_id, prepared = place
    pixels = keras.Input((32, 32, 3))
    hidden = keras.layers.Conv2D(8, 3)(pixels)
    network = keras.Model(pixels, [hidden, keras.layers.Conv2D(2, 3)(hidden)], name="network")
    photos = keras.Input((32, 32, 3), dtype="uint8")
    used, _ = network(keras.layers.Rescaling(0.01)(photos))  # Keras exports the output that nothing uses too
    keras.Model(photos, keras.layers.GlobalAveragePooling2D()(used)).save(
        settings.features / prepared[:16] / "backbone.keras"
    )
    train(settings, run_id=run_id, features=prepared)
    folder = settings.run(run_id) / "model"
    facts = json.loads((folder / "model.json").read_text())
    why = "ValueError: exported it has 4 outputs, where the network has 2"
    assert facts["engine"] == f"TensorFlow: it could not be exported ({why})"
    assert f"OpenVINO cannot run this network, so TensorFlow does ({why})" in caplog.text
    assert Predictor(folder).library == "tensorflow"


def test_nothing_is_published_when_it_fails(place, monkeypatch):
    settings, run_id, prepared = place

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("keras.Model.save", broken)
    with pytest.raises(OSError, match="disk full"):
        train(settings, run_id=run_id, features=prepared)
    assert not (settings.run(run_id) / "model").exists()


def test_a_training_without_a_search_is_refused(place):
    settings, run_id, prepared = place
    (settings.run(run_id) / "search" / "best.json").unlink()
    with pytest.raises(ConfigError, match="Run `bincount tune` first"):
        train(settings, run_id=run_id, features=prepared)


def test_fine_tuning_trains_the_whole_network_and_learns_the_sums(tmp_path):
    settings = make_settings(tmp_path)
    manifest = write_bins(settings.workspace, bins=60)
    run_id = runs.open_run(settings)
    network = {"backbone": "MobileNetV3Small", "weights": "none", "image_px": 32}
    prepared = prepare(settings, run_id=run_id, manifest=manifest, **network)["features"]
    search = settings.run(run_id) / "search"
    search.mkdir(parents=True)
    (search / "best.json").write_text(json.dumps({"features": prepared, "best": FOUND}))
    train(settings, run_id=run_id, features=prepared, fine_tune_epochs=2)
    folder = settings.run(run_id) / "model"
    counted = Predictor(folder).observe([photo(items=2)])
    assert counted.probabilities.shape == (1, 5)
    assert SumsHead.read(folder).predict(counted.features).shape == (1, 5)
    with mlflow_client(settings, "test") as client:
        assert len(client.get_metric_history(run_id, "fine_tune/val_nll")) == 2


# KerasTuner 1.4.8 names its threads as Python 2 did.
@pytest.mark.filterwarnings("ignore:(currentThread|getName)\\(\\) is deprecated:DeprecationWarning")
def test_a_searched_fine_tuning_is_trained_with_what_was_found(tmp_path):
    settings = make_settings(tmp_path)
    manifest = write_bins(settings.workspace, bins=60)
    run_id = runs.open_run(settings)
    network = {"backbone": "MobileNetV3Small", "weights": "none", "image_px": 32}
    prepared = prepare(settings, run_id=run_id, manifest=manifest, **network)["features"]
    searched = {"search_fine_tuning": True, "fine_tune_epochs": 2, "trials": 2, "max_epochs": 2}
    found = tune(settings, run_id=run_id, features=prepared, **searched)["fine_tuning"]
    assert set(found) == {"learning_rate", "batch_size", "epochs"}
    train(settings, run_id=run_id, features=prepared, fine_tune_epochs=2)
    with mlflow_client(settings, "test") as client:
        assert len(client.get_metric_history(run_id, "fine_tune/val_nll")) == found["epochs"]
        names = {run.info.run_name for run in client.search_runs([client.get_run(run_id).info.experiment_id])}
    assert {"trial fine-tuning 0", "trial fine-tuning 1"} <= names
