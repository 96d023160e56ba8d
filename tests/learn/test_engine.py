"""A network answers alike with Keras and exported, in each precision; one that cannot be exported still answers."""

import json
import subprocess
import sys

import numpy as np
import pytest

from bincount.errors import DataError
from bincount.learn import engine
from bincount.learn.engine import (
    BFLOAT16,
    FLOAT32,
    KerasNetwork,
    OpenVinoNetwork,
    checked_precisions,
    engine_of,
    files_of,
    has_bfloat16,
    load_keras,
    open_network,
    save_network,
)
from bincount.learn.predictor import FEATURES, Predictor
from tests.tiny import photo, write_model

PHOTOS = [photo(items=items, seed=items) for items in range(1, 6)]
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("model")
    write_model(made, seed=1, sharpness=4.0)
    return made


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)


def test_the_exported_network_gives_what_keras_gives(folder, pixels):
    keras_outputs = KerasNetwork(engine._with_outputs(load_keras(folder / "model.keras"), (FEATURES,)))(pixels)
    outputs = OpenVinoNetwork(folder / "model.xml", FLOAT32)(pixels)
    assert [each.shape for each in outputs] == [each.shape for each in keras_outputs]
    for ours, theirs in zip(outputs, keras_outputs, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-4)


@needs_bfloat16
def test_bfloat16_is_chosen_and_says_nearly_the_same(folder):
    assert checked_precisions(folder / "model.keras") == [FLOAT32, BFLOAT16]
    fast, exact = Predictor(folder), Predictor(folder, precision=FLOAT32)
    assert (fast.precision, exact.precision) == (BFLOAT16, FLOAT32)
    apart = abs(exact.predict(PHOTOS) - fast.predict(PHOTOS)).max()
    assert 1e-6 < apart < 0.02, "above 0: it is computed in fewer bits"


@pytest.mark.parametrize(
    ("note", "library", "precision"),
    [
        ({"differences": {"float32": 1e-6, "bfloat16": 0.5}}, "openvino", FLOAT32),
        ({"differences": {"float32": 1e-6}}, "openvino", FLOAT32),
        ({"differences": {"float32": 0.5, "bfloat16": 1e-6}}, "tensorflow", FLOAT32),
        ({"problem": "no counterpart"}, "tensorflow", FLOAT32),
    ],
)
def test_what_the_check_did_not_pass_is_not_used(folder, tmp_path, note, library, precision):
    for file in files_of(folder / "model.keras"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    engine.note_of(tmp_path / "model.keras").write_text(json.dumps(note))
    network = open_network(tmp_path / "model.keras")
    assert (network.library, network.precision) == (library, precision)
    assert engine_of(note).lower().startswith(library)


def test_a_network_that_cannot_be_exported_falls_back_to_tensorflow(tmp_path, pixels, caplog):
    import keras

    inputs = keras.Input((32, 32, 3), dtype="uint8")
    counts = keras.ops.mean(keras.ops.cast(inputs, "float32"), axis=(1, 2))
    model = keras.Model(inputs, keras.layers.Softmax()(counts))
    path = tmp_path / "model.keras"

    class Refusing(type(model)):
        def export(self, *_, **__):
            raise NotImplementedError("no counterpart of an operation")

    model.__class__ = Refusing
    caplog.set_level("WARNING")
    note = save_network(model, path, pixels, scale=1.0)
    assert note == {
        "problem": "NotImplementedError: no counterpart of an operation",
        "differences": {},
        "files": {},
    }
    assert "OpenVINO cannot run this network, so TensorFlow does" in caplog.text
    assert (
        engine_of(note) == "TensorFlow: it could not be exported (NotImplementedError: no counterpart of an operation)"
    )
    assert [file.name for file in files_of(path)] == ["model.keras", "model.engine.json"]


def test_an_export_with_outputs_that_nothing_uses_is_noticed(tmp_path, pixels):
    import keras

    inner = keras.Input((32, 32, 3))
    hidden = keras.layers.Conv2D(3, 3, padding="same")(inner)
    network = keras.Model(inner, [hidden, keras.layers.Conv2D(2, 3)(hidden)])
    photos = keras.Input((32, 32, 3), dtype="uint8")
    used, _ = network(keras.ops.cast(photos, "float32"))
    model = keras.Model(photos, keras.layers.GlobalAveragePooling2D()(used))
    note = save_network(model, tmp_path / "model.keras", pixels)
    assert "exported it has 2 outputs, where the network has 1" in note["problem"]


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_export_is_named(folder, tmp_path, damage):
    for file in files_of(folder / "model.keras"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if damage == "cut":
        (tmp_path / "model.bin").write_bytes(b"")
        (tmp_path / "model.xml").write_text("<net")
    else:
        (tmp_path / "model.xml").write_text("")
    assert not engine.is_whole_network(tmp_path / "model.keras")
    assert engine.is_whole_network(folder / "model.keras")
    with pytest.raises(DataError, match=r"model\.xml: must be an exported network"):
        open_network(tmp_path / "model.keras")


def test_an_export_of_the_right_size_with_other_bytes_is_named(folder, tmp_path):
    for file in (*files_of(folder / "model.keras"), folder / "model.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = bytearray((tmp_path / "model.bin").read_bytes())
    weights[len(weights) // 2] ^= 0x40
    (tmp_path / "model.bin").write_bytes(weights)
    assert not engine.is_whole_network(tmp_path / "model.keras")
    with pytest.raises(DataError, match=r"model\.bin: must be an exported network as it was saved, got none or other"):
        Predictor(tmp_path)


def test_answering_loads_neither_tensorflow_nor_keras_nor_mlflow_nor_telemetry(folder, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(PHOTOS[0])
    code = f"""
import pathlib, sys
from bincount.learn.predictor import Predictor
seen = Predictor(pathlib.Path({str(folder)!r})).observe([pathlib.Path({str(tmp_path / "photo.jpg")!r}).read_bytes()])
assert seen.features is not None
print(*({{"tensorflow", "keras", "mlflow", "pandas"}} & set(sys.modules)), end="")
print(*(name for name in sys.modules if "telemetry" in name and sys.modules[name] is not None
        and not name.startswith("openvino.tools")), end="")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
