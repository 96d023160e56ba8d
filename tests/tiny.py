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
        "config": {"fine_tune_epochs": 0},
    }
    (folder / "model.json").write_text(json.dumps(facts))


def write_change_head(folder, *, pairs=150, unchanged=0):
    """Writes the change head of a tiny model, learned from pairs of drawn photos, one item apart.

    In the `unchanged` first ones nothing moved.
    """
    from bincount.counts import Counts
    from bincount.learn.predictor import Predictor
    from bincount.mismatch.change import ChangeHead

    rng = np.random.default_rng(0)
    before = rng.integers(1, 6, pairs)
    after = np.where(before == 1, 2, np.where(before == 5, 4, before + rng.choice([-1, 1], pairs)))
    after[:unchanged] = before[:unchanged]
    predictor = Predictor(folder)
    ends = [
        predictor.observe([photo(items=int(count), seed=seed) for seed, count in enumerate(counts)]).features
        for counts in (before, after)
    ]
    head = ChangeHead.fit(*ends, before - 1, after - 1, [str(row // 10) for row in range(pairs)], Counts.parse("1-5"))
    head.write(folder)


def write_contents_judge(folder, *, bins=300):
    """Writes the sums head and the judge of contents of a tiny model, learned from drawn photos of cubes."""
    from bincount.dataset.contents import Product, sums_of
    from bincount.learn.predictor import Predictor
    from bincount.mismatch.contents import ContentsJudge
    from bincount.mismatch.sums import SumsHead

    rng = np.random.default_rng(0)
    truth = np.arange(bins) % 5
    contents = [
        (Product(int(count) + 1, (side,) * 3, 0.5),) for count, side in zip(truth, rng.uniform(2, 9, bins), strict=True)
    ]
    predictor = Predictor(folder)
    seen = predictor.observe([photo(items=int(count) + 1, seed=seed) for seed, count in enumerate(truth)])
    sums = np.array([sums_of(products) for products in contents])
    blocks = [str(row // 10) for row in range(bins)]
    head = SumsHead.fit(seen.features, sums, blocks)
    judge = ContentsJudge.fit(contents, truth, predictor.counts)
    pairs, prior = np.arange(bins).reshape(-1, 2), np.full(5, 0.2)
    judge = judge.calibrated(contents, truth, blocks, seen.probabilities, head.predict(seen.features), prior, pairs)
    head.write(folder)
    judge.write(folder)


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
