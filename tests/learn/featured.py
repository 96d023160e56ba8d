"""A run with features to learn from, as `prepare` leaves it, without a network."""

import json

import numpy as np

from bincount.dataset.manifest import Manifest
from bincount.learn.feature_extraction import write_features
from bincount.tracking import runs
from tests.learn.bins import write_bins


def open_prepared_run(settings, *, bins=200, width=8, noise=0.3):
    """Writes features that say the count, with noise. Returns the run's id and the features' key."""
    import keras

    digest = write_bins(settings.workspace, bins=bins)
    manifest = Manifest.read(settings.manifests, digest)
    folder = settings.features / ("f" * 16)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index, shard in enumerate(manifest.shards):
        records = [record for record in manifest.records if record.shard == index]
        features = rng.normal(size=(len(records), 2, width)) * noise
        features[:, :, 0] += np.array([record.recorded for record in records])[:, None]
        write_features(
            features.astype(np.float16), [record.id for record in records], folder / f"{shard.sha256[:16]}.npy"
        )
    photos = keras.Input((32, 32, 3), dtype="uint8")
    pixels = keras.Input((32, 32, 3))
    network = keras.Model(pixels, keras.layers.Conv2D(width, 3)(pixels), name="network")
    pooled = keras.layers.GlobalAveragePooling2D()(network(keras.layers.Rescaling(0.01)(photos)))
    keras.Model(photos, pooled).save(folder / "backbone.keras")
    facts = {"manifest": digest, "backbone": "tiny", "weights": "none", "fit": "pad", "image_px": 32}
    (folder / f"{digest}.json").write_text(json.dumps(facts))
    return runs.open_run(settings), f"{folder.name}-{digest}"
