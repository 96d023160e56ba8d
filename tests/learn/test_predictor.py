"""The assembled model, saved and loaded, counts as its parts did."""

import io
import json
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from bincount.dataset.shards import decode_example, read_record
from bincount.errors import DataError, RowError
from bincount.learn.engine import FLOAT32, save_network
from bincount.learn.feature_extraction import extract_features, keras_forward, read_examples
from bincount.learn.head_training import fit_head, mean_of_views
from bincount.learn.model import Hyperparameters, assemble
from bincount.learn.photo_batches import load_photos
from bincount.learn.predictor import FEATURES, Predictor

TEMPERATURE = 1.7


@pytest.fixture(scope="module")
def parts(tmp_path_factory, manifest, shard_files, extractor):
    """Features of all bins, a head trained on some of them, and the folder of the model made of it."""
    folder = tmp_path_factory.mktemp("model")
    extract_features(folder / "features", shard_files, keras_forward(extractor, 32), width=24, image_px=32, fit="pad")
    train, validation = (read_examples(folder / "features", manifest, part) for part in ("train", "validation"))
    head = fit_head(train, validation, 5, Hyperparameters(1e-2, 32, 5), seed=0).head
    photos = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    model = assemble(extractor, head, TEMPERATURE)
    save_network(model, folder / "model.keras", photos, outputs=(FEATURES,), scale=1.0)
    (folder / "model.json").write_text(json.dumps({"counts": "1-5", "image_px": 32, "fit": "pad"}))
    return folder, head


@pytest.fixture(scope="module")
def predictor(parts):
    return Predictor(parts[0], precision=FLOAT32)


@pytest.fixture(scope="module")
def images(manifest, shard_files):
    paths = list(shard_files.values())
    found = []
    for record in manifest.records[:40]:
        with paths[record.shard].open("rb") as file:
            found.append(decode_example(read_record(file, record.offset))["image"])
    return found


def test_the_saved_model_holds_stock_layers_only(parts):
    config = json.loads(zipfile.ZipFile(parts[0] / "model.keras").read("config.json"))

    def modules(node):
        if isinstance(node, dict):
            if "class_name" in node and "module" in node:
                yield node["module"], node["class_name"]
            for value in node.values():
                yield from modules(value)
        elif isinstance(node, list):
            for value in node:
                yield from modules(value)

    found = set(modules(config))
    assert all(module is None or module.split(".")[0] == "keras" for module, _ in found), found
    assert "Lambda" not in {name for _, name in found}


def test_answers_are_those_of_the_parts(parts, predictor, images, manifest, shard_files, extractor):
    photos = load_photos(manifest.records[:40], list(shard_files.values()), image_px=32, fit="pad")
    views = [np.asarray(extractor(np.ascontiguousarray(view), training=False)) for view in (photos, photos[:, :, ::-1])]
    logits = parts[1].predict_on_batch((views[0] + views[1]) / 2) / TEMPERATURE
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = predictor.predict(images)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, expected, atol=1e-5)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)


def test_cached_features_lead_to_the_served_answer(parts, predictor, images, manifest):
    records = {record.id for record in manifest.records[:40]}
    examples = read_examples(parts[0] / "features", manifest, "train")
    served = [
        row
        for row, record in zip(predictor.predict(images), manifest.records, strict=False)
        if record.part == "train" and record.id in records
    ]
    offline = parts[1].predict_on_batch(mean_of_views(examples.features))[: len(served)] / TEMPERATURE
    offline = np.exp(offline) / np.exp(offline).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.stack(served), offline, atol=2e-3)  # features are float16


@pytest.mark.parametrize("n", [1, 2, 8, 9, 33, 40])
def test_how_many_come_together_does_not_matter(predictor, images, n):
    np.testing.assert_allclose(predictor.predict(images[:n]), predictor.predict(images)[:n], atol=1e-6)


def test_mirroring_a_photo_changes_nothing(predictor, images):
    mirrored = []
    for image in images[:4]:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(image)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(buffer, "PNG")
        mirrored.append(buffer.getvalue())
    np.testing.assert_allclose(predictor.predict(mirrored), predictor.predict(images[:4]), atol=1e-6)


def test_a_bad_row_is_named(predictor, images):
    with pytest.raises(DataError, match=r"^row 1: photo: must be a whole JPEG or PNG .* got b'no photo'"):
        predictor.predict([images[0], b"no photo"])
    with pytest.raises(RowError, match=r"^row 2: photo: must be a whole JPEG or PNG") as caught:
        predictor.predict([*images[:2], images[2][:-60]])
    assert caught.value.row == 2
    with pytest.raises(DataError, match="at least one photo is needed"):
        predictor.predict([])


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(DataError, match=r"must hold a model\.json"):
        Predictor(tmp_path)


def test_a_model_that_runs_code_is_refused(tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs)).save(tmp_path / "model.keras")
    (tmp_path / "model.json").write_text(json.dumps({"counts": "1-5", "image_px": 32, "fit": "pad"}))
    with pytest.raises(DataError, match=r"model\.keras: must be a network that Keras loads"):
        Predictor(tmp_path)


def test_observing_gives_the_same_counts_and_the_head_s_features(parts, predictor, images):
    """The features are those that training cached: the mean of both views."""
    folder, head = parts
    seen = Predictor(folder, precision=FLOAT32).observe(images)
    np.testing.assert_allclose(seen.probabilities, predictor.predict(images), atol=1e-6)
    logits = keras.ops.convert_to_numpy(head(seen.features)) / TEMPERATURE
    np.testing.assert_allclose(keras.ops.convert_to_numpy(keras.ops.softmax(logits)), seen.probabilities, atol=1e-5)
    assert seen.brightness.shape == seen.sharpness.shape == (len(images),)
    assert (seen.brightness > 0).all()
