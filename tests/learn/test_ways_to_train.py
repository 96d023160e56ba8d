"""Fine-tuning: what learns on and what stays as it was."""

from dataclasses import replace

import numpy as np

from bincount.learn.backbone import build_backbone
from bincount.learn.fine_tuning import fine_tune
from bincount.learn.network_training import FINE_TUNING, FINE_TUNING_LITE
from bincount.learn.photo_batches import Photos


def test_fine_tuning_trains_the_network_on_with_batch_norm_frozen(manifest, shard_files, tmp_path):
    paths = list(shard_files.values())
    train, held_out = (
        Photos(manifest, [part], paths, manifest.counts, image_px=32, fit="pad") for part in ("train", "calibration")
    )
    backbone = build_backbone("MobileNetV3Small", "none", image_px=32).model
    layers = [*backbone.get_layer("network").layers, backbone.get_layer("normalisation")]
    before = [layer.get_weights() for layer in layers]
    changed: dict[str, list[bool]] = {}

    def look(epoch: int, told: dict) -> None:
        changed.clear()
        for layer, weights in zip(layers, before, strict=True):
            if weights:
                changed.setdefault("normalisation" if layer is layers[-1] else type(layer).__name__, []).append(
                    not same(layer.get_weights(), weights)
                )

    recipe = replace(FINE_TUNING, epochs=2)
    fine_tune(backbone, train, held_out, 5, recipe, scored=slice(0, 5), folder=tmp_path, seed=0, on_epoch=look)
    assert all(changed["Conv2D"])
    assert not any(changed["BatchNormalization"])
    assert changed["normalisation"] == [False]


def test_the_first_stages_stay_as_they_were(manifest, shard_files, tmp_path):
    paths = list(shard_files.values())
    train, held_out = (
        Photos(manifest, [part], paths, manifest.counts, image_px=32, fit="pad") for part in ("train", "calibration")
    )
    backbone = build_backbone("EfficientNetLite0", "none", image_px=32).model
    before = {layer.name: layer.get_weights() for layer in backbone.get_layer("network").layers if layer.weights}
    recipe = replace(FINE_TUNING_LITE, epochs=2, frozen_stages=2)
    trained = fine_tune(
        backbone, train, held_out, 5, recipe, scored=slice(0, 5), folder=tmp_path, seed=0, on_epoch=lambda *_: None
    )
    after = trained.backbone.get_layer("network")
    changed = {name for name, weights in before.items() if not same(after.get_layer(name).get_weights(), weights)}
    first = {name for name in before if name.startswith(("conv_stem", "bn0", "blocks.0.", "blocks.1.", "blocks.2."))}
    assert not changed & first
    # Batch norm follows its photos even where the first epoch, at a learning rate of nearly 0, was the best one.
    assert changed >= {name for name in before if ".bn" in name} - first


def same(some: list, others: list) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))
