"""A model of the layout that `train` leaves, as small as can be, and photos for it."""

import io
import json

import numpy as np
from PIL import Image, ImageDraw


def write_model(folder, *, counts="1-5", image_px=32, seed=0, manifest="0" * 16, sharpness=1.0):
    """Writes a model's files: random weights on average colours."""
    import keras

    from bincount.counts import Counts
    from bincount.learn.engine import save_network

    keras.utils.set_random_seed(seed)
    pixels = keras.Input((image_px, image_px, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(4, 5, strides=4, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    scaled = keras.initializers.RandomNormal(stddev=sharpness, seed=seed)
    out = keras.layers.Dense(len(Counts.parse(counts)), activation="softmax", kernel_initializer=scaled)(x)
    folder.mkdir(parents=True, exist_ok=True)
    photos = np.random.default_rng(0).integers(0, 256, (4, image_px, image_px, 3), np.uint8)
    save_network(keras.Model(pixels, out), folder / "model.keras", photos, outputs=("features",), scale=1.0)
    facts = {
        "counts": counts,
        "fit": "pad",
        "image_px": image_px,
        "backbone": "tiny",
        "weights": "none",
        "manifest": manifest,
    }
    (folder / "model.json").write_text(json.dumps(facts))


def photo(*, items=3, size=(60, 40), seed=0):
    """A JPEG with as many dark boxes on yellow as there are items; never a real bin."""
    image = Image.new("RGB", size, (220, 190, 60))
    draw = ImageDraw.Draw(image)
    rng = np.random.default_rng(seed)
    for _ in range(items):
        x, y = rng.integers(0, size[0] - 14), rng.integers(0, size[1] - 14)
        draw.rectangle([int(x), int(y), int(x) + 12, int(y) + 12], fill=tuple(rng.integers(0, 160, 3).tolist()))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
