"""Features of any Keras application, with the network's own normalisation inside."""

import keras
import numpy as np
import pytest

from bincount.errors import ConfigError
from bincount.learn.backbone import build_backbone, fine_width, set_statistics, stages_of

PHOTOS = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)


def features_of(backbone, photos=PHOTOS):
    return np.asarray(backbone.model(photos, training=False))


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("ResNet50", 2 * (64 + 256 + 512)),
        ("ResNet50V2", 2 * (64 + 256 + 512)),
        ("EfficientNetV2B0", 704),
        ("ConvNeXtTiny", 5376),
        ("MobileNetV3Small", 368),
    ],
)
def test_random_weights_pool_the_first_three_stages_and_survive_saving(name, width, tmp_path):
    backbone = build_backbone(name, "none", image_px=64)
    set_statistics(backbone, PHOTOS)
    features = features_of(backbone)
    assert backbone.weights == "none"
    assert features.shape == (6, width)
    assert fine_width(backbone.model) == width
    assert np.isfinite(features).all()
    assert (features.std(axis=0) > 0).mean() > 0.5
    backbone.model.save(tmp_path / "backbone.keras")
    again = keras.saving.load_model(tmp_path / "backbone.keras", safe_mode=True)
    np.testing.assert_array_equal(np.asarray(again(PHOTOS, training=False)), features)


def test_a_seed_gives_the_same_random_network_and_zero_is_one():
    first, same, other = (features_of(build_backbone("ResNet50", "none", image_px=64, seed=s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize("name", ["ResNet50", "ResNet50V2", "DenseNet121"])
def test_the_networks_own_normalisation_is_inside(name):
    application = getattr(keras.applications, name)
    keras.utils.set_random_seed(3)
    network = application(include_top=False, weights=None, input_shape=(64, 64, 3))
    stages = keras.Model(network.input, stages_of(network)[:3])
    module = __import__("sys").modules[application.__module__]
    prepared = module.preprocess_input(PHOTOS.astype("float32"))
    activations = [np.asarray(stage) for stage in stages(prepared, training=False)]
    expected = np.concatenate(
        [pooled for a in activations for pooled in (a.mean((1, 2)), np.sqrt((a**2).mean((1, 2))))], axis=1
    )
    np.testing.assert_allclose(
        features_of(build_backbone(name, "none", image_px=64, seed=3)), expected, rtol=1e-3, atol=1e-3
    )


def test_the_stages_of_resnet50_are_the_ends_of_its_blocks():
    network = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    names = [stage._keras_history.operation.name for stage in stages_of(network)]
    assert names == ["conv1_relu", *(f"conv{n}_block{last}_out" for n, last in ((2, 3), (3, 4), (4, 6), (5, 3)))]


def test_statistics_are_those_of_the_photos():
    backbone = build_backbone("ResNet50", "none", image_px=64)
    set_statistics(backbone, PHOTOS)
    network = backbone.model.get_layer("network")
    inside = keras.Model(network.input, network.get_layer("conv1_bn").output)
    normalised = backbone.model.get_layer("normalisation")(PHOTOS.astype("float32"))
    activations = np.asarray(inside(normalised, training=False))
    np.testing.assert_allclose(activations.mean((0, 1, 2)), 0, atol=0.02)
    np.testing.assert_allclose(activations.std((0, 1, 2)), 1, atol=0.02)


@pytest.mark.parametrize(
    ("name", "px", "said"),
    [
        ("ResNet5000", 64, "EfficientNetLite0 or a class of keras.applications, got 'ResNet5000'"),
        ("InceptionV3", 64, "at 64 px"),
    ],
)
def test_what_cannot_be_built_is_said(name, px, said):
    with pytest.raises(ConfigError, match=said):
        build_backbone(name, "none", image_px=px)
