"""Half precision and several devices, tried on what every machine has: processors."""

import json
import platform
import subprocess
import sys

import keras
import numpy as np
import pytest

from bincount.learn.backbone import build_backbone, set_statistics
from bincount.learn.devices import mixed_precision, on_gpu, spread

PHOTOS = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("name", ["EfficientNetLite0", "ResNet50"])
def test_bfloat16_changes_features_little_and_the_weights_not_at_all(name):
    backbone = build_backbone(name, "none", image_px=32)
    set_statistics(backbone, PHOTOS)
    model = backbone.model
    exact, weights = np.asarray(model(PHOTOS, training=False)), model.get_weights()
    with mixed_precision(model):
        assert {layer.compute_dtype for layer in model._flatten_layers() if isinstance(layer, keras.layers.Conv2D)} == {
            "bfloat16"
        }
        rounded = np.asarray(model(PHOTOS, training=False))
    assert rounded.dtype == np.float32
    spread_of = exact.std(axis=0) + 1e-3
    assert 0 < np.abs((rounded - exact) / spread_of).mean() < 0.1
    np.testing.assert_array_equal(np.asarray(model(PHOTOS, training=False)), exact)
    for mine, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(mine, before)


def test_one_device_is_not_spread():
    with spread() as several:
        assert not several
    assert not on_gpu()


FAULTS = """
import ctypes, resource, sys
if sys.argv[1] == "reused":
    from bincount.learn.devices import reuse_large_blocks
    assert reuse_large_blocks()
libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
for attempt in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(256 << 20)
    ctypes.memset(block, 1, 256 << 20)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_large_block_is_used_again_without_page_faults():
    def faults(mode):
        return int(subprocess.run([sys.executable, "-c", FAULTS, mode], check=True, capture_output=True).stdout)

    assert faults("reused") < 100 < faults("as it is")


TWO = """
import json, sys
from pathlib import Path
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1]))
from functools import partial
from bincount.dataset.manifest import Manifest
from bincount.learn import fine_tuning
from bincount.learn.backbone import build_backbone
from bincount.learn.devices import spread
from bincount.learn.network_training import Recipe
from bincount.learn.photo_batches import Photos
fine_tuning.spread = partial(spread, "CPU")
workspace, digest, folder = Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
manifest = Manifest.read(workspace / "manifests", digest)
paths = [workspace / "shards" / shard.name for shard in manifest.shards]
train_photos, held_out = (
    Photos(manifest, [part], paths, manifest.counts, image_px=32, fit="pad") for part in ("train", "calibration")
)
curve = []
result = fine_tuning.fine_tune(
    build_backbone("EfficientNetLite0", "none", image_px=32).model, train_photos, held_out, 5, Recipe(1e-3, 16, 3),
    scored=slice(0, 5), folder=folder, seed=0, on_epoch=lambda epoch, told: curve.append(told["loss"]),
)
print(json.dumps({"several": len(tf.config.list_logical_devices("CPU")), "curve": curve, "val_nll": result.val_nll}))
"""


@pytest.mark.slow
def test_two_devices_learn_as_one_does(workspace, tmp_path):
    (digest,) = [path.stem for path in (workspace / "manifests").iterdir()]

    def run(devices):
        arguments = [str(devices), str(workspace), digest, str(tmp_path / str(devices))]
        done = subprocess.run(
            [sys.executable, "-c", TWO, *arguments], capture_output=True, text=True, cwd=sys.path[0], check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    one, two = run(1), run(2)
    assert (one["several"], two["several"]) == (1, 2)
    assert len(two["curve"]) == 3
    # Batch norm and dropout see half a batch each, so the curves are near, not equal.
    np.testing.assert_allclose(two["curve"], one["curve"], rtol=0.15)
    assert two["val_nll"] == pytest.approx(one["val_nll"], rel=0.3)
