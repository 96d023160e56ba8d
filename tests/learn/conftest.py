"""Made bins, and a backbone in little for them."""

import pytest

from bincount.dataset.manifest import Manifest
from tests.learn.bins import PX, write_bins


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """A workspace of 120 made bins in three shards; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("workspace")
    write_bins(folder)
    return folder


@pytest.fixture(scope="session")
def manifest(workspace):
    (path,) = (workspace / "manifests").iterdir()
    return Manifest.read(path.parent, path.stem)


@pytest.fixture(scope="session")
def shard_files(workspace, manifest):
    return {shard: workspace / "shards" / shard.name for shard in manifest.shards}


@pytest.fixture(scope="session")
def extractor():
    """A backbone in little: photos (B, 32, 32, 3) uint8 to 24 features."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    photos = keras.Input((PX, PX, 3), dtype="uint8")
    hidden = layers.Rescaling(1 / 255)(photos)
    first = layers.Conv2D(8, 3, strides=2, activation="relu")(hidden)
    second = layers.Conv2D(16, 3, strides=2, activation="relu")(first)
    return keras.Model(photos, layers.Concatenate()([layers.GlobalAveragePooling2D()(x) for x in (first, second)]))
