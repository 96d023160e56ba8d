"""EfficientNet-Lite0: its weights are read as they were written, and name pictures."""

import io
import pickle
import struct

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from bincount.learn.backbone import build_backbone, fine_width, with_last_activations
from bincount.learn.efficientnet_lite import NAME, EfficientNetLite0, _tensors_of, _TensorUnpickler, preprocess_input
from bincount.learn.engine import FLOAT32, checked_precisions, open_network, save_network

PALACE, DAISY = 698, 985  # of ImageNet's 1,000 classes


@pytest.mark.parametrize(("picture", "named"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_it_names_a_palace_and_a_daisy(picture, named):
    image = Image.fromarray(load_sample_image(picture))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    logits = EfficientNetLite0()(preprocess_input(np.asarray(square, np.float32))[None], training=False)
    assert int(np.argmax(logits)) == named


def test_every_stage_is_pooled_and_the_exported_network_gives_the_same(tmp_path):
    backbone = build_backbone("EfficientNetLite0", "auto", image_px=64)
    assert backbone.model.output.shape[1] == 16 + 24 + 40 + 80 + 112 + 192 + 320
    photos = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    save_network(backbone.model, tmp_path / "n.keras", photos)
    assert FLOAT32 in checked_precisions(tmp_path / "n.keras")


def written(tensor_arguments, values):
    """A file of one tensor, "a", in PyTorch's first format, written opcode by opcode."""
    offset, size, stride = tensor_arguments
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x007X\x03\x00\x00\x00cpu"
    storage += pickle.dumps(len(values), 2)[2:-1] + b"NtQ"
    rest = b"".join(pickle.dumps(each, 2)[2:-1] for each in (offset, size, stride, False, {}))
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"
    state = b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s."
    head = b"".join(pickle.dumps(each, 2) for each in (1, 1001, {}))
    body = struct.pack("<q", len(values)) + np.asarray(values, "<f4").tobytes()
    return io.BytesIO(head + state + pickle.dumps(["7"], 2) + body)


def test_a_tensor_is_a_strided_view_of_its_storage():
    tensors = _tensors_of(written((1, (2, 3), (1, 2)), range(7)))
    np.testing.assert_array_equal(tensors["a"], [[1, 3, 5], [2, 4, 6]])


@pytest.mark.parametrize("call", [b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nload\n"])
def test_nothing_but_tensors_is_constructed(call):
    with pytest.raises(pickle.UnpicklingError, match="is no tensor"):
        _TensorUnpickler(io.BytesIO(b"\x80\x02" + call + b"X\x04\x00\x00\x00true\x85R.")).load()


def test_the_last_activations_join_the_stages_and_the_frozen_network_computes_nothing_else(tmp_path):
    photos = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    backbone = build_backbone(NAME, "imagenet", image_px=64).model
    save_network(backbone, tmp_path / "backbone.keras", photos)
    (features,) = open_network(tmp_path / "backbone.keras", precision="float32")(photos)
    assert features.shape == (2, 784)
    whole = with_last_activations(backbone)
    more = np.asarray(whole(photos, training=False))
    assert more.shape == (2, 784 + 1280)
    assert fine_width(backbone) == fine_width(whole) == 16 + 24 + 40 + 80 + 112
    np.testing.assert_allclose(more[:, :784], np.asarray(backbone(photos, training=False)), atol=1e-5)
    pixels = preprocess_input(photos.astype(np.float32))
    last = np.asarray(EfficientNetLite0(include_top=False, input_shape=(64, 64, 3))(pixels)).mean(axis=(1, 2))
    np.testing.assert_allclose(more[:, 784:], last, atol=1e-4)
