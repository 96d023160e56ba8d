"""Occlusion maps: hot where hiding lowers the count, whatever the photo's shape."""

import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

from bincount.errors import RowError
from bincount.learn.engine import save_network
from bincount.learn.occlusion import CELLS, hide, occlusion_map
from bincount.learn.predictor import Predictor


@pytest.fixture(scope="module")
def darkness(tmp_path_factory):
    """A model by which a photo holds the more items, the more of it is dark."""
    folder = tmp_path_factory.mktemp("model")
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    dark = keras.layers.Rescaling(-1 / 255, 1)(pixels)
    mean = keras.layers.GlobalAveragePooling2D(name="features")(dark)
    head = keras.layers.Dense(2, activation="softmax")
    network = keras.Model(pixels, head(mean))
    head.set_weights([np.array([[-9.0, 9.0]] * 3), np.zeros(2)])
    photos = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    save_network(network, folder / "model.keras", photos, outputs=("features",), scale=1.0)
    facts = {"counts": "1-2", "fit": "pad", "image_px": 32}
    (folder / "model.json").write_text(json.dumps(facts))
    return Predictor(folder)


def drawn(size, spot):
    image = Image.new("RGB", size, (255, 255, 255))
    image.paste((0, 0, 0), spot)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("size", [(64, 64), (64, 32), (32, 64)])
def test_it_is_hot_where_the_items_are_and_covers_the_photo_without_its_padding(darkness, size):
    width, height = size
    corner = (width * 3 // 4, 0, width, height // 4)
    falls = occlusion_map(darkness, drawn(size, corner))
    assert falls.shape == (CELLS, CELLS)
    hottest = np.unravel_index(falls.argmax(), falls.shape)
    assert hottest[0] < CELLS / 3
    assert hottest[1] >= CELLS * 2 / 3
    assert falls[CELLS // 2 :, : CELLS // 2].max() <= 0 < falls.max()


def test_padding_and_the_photo_s_mean_stay_when_a_part_is_hidden():
    square = np.zeros((32, 32, 3), np.uint8)
    box = slice(8, 24), slice(0, 32)
    square[box] = np.random.default_rng(0).integers(0, 256, (16, 32, 3))
    hidden = hide(square, box, 0.5, 0.25, 0.25)
    changed = np.any(hidden != square, axis=2)
    assert changed[16:20, 8:16].all()
    assert changed.sum() == 4 * 8
    assert (hidden[16:20, 8:16] == square[box].mean(axis=(0, 1)).round()).all()


def test_a_file_that_is_no_photo_is_refused(darkness):
    with pytest.raises(RowError, match="row 0"):
        occlusion_map(darkness, b"no photo")
