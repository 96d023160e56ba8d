"""Fine-tuning: what learns on and what stays as it was."""

from dataclasses import replace

import numpy as np

from bincount.learn.backbone import build_backbone
from bincount.learn.fine_tuning import fine_tune
from bincount.learn.photo_batches import Photos
from bincount.learn.whole_network import FINE_TUNING


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
                same = all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), weights, strict=True))
                changed.setdefault("normalisation" if layer is layers[-1] else type(layer).__name__, []).append(
                    not same
                )

    recipe = replace(FINE_TUNING, epochs=2)
    fine_tune(backbone, train, held_out, 5, recipe, scored=slice(0, 5), folder=tmp_path, seed=0, on_epoch=look)
    assert all(changed["Conv2D"])
    assert not any(changed["BatchNormalization"])
    assert changed["normalisation"] == [False]
