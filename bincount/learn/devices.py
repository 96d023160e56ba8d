"""Devices that compute a network: a processor, a GPU, or several."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
from collections.abc import Iterator

import keras
import tensorflow as tf

MIXED = "mixed_bfloat16"
"""Computed in bfloat16, kept in float32: as fast as float16 on a GPU and without its narrow range."""

_RESERVED = 8 << 30
_HUGE_PAGE = 2 << 20
_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_ARENA_MAX = -4, -1, -8  # glibc's malloc.h


def reuse_large_blocks() -> bool:
    """Lets the C library reuse large blocks, in huge pages; true where it does (glibc on Linux).

    By itself glibc returns every block above 32 MB to the kernel and gets it back page by page, zeroed. The activations
    of a training step are such blocks: with them reused, a step of EfficientNetLite0 at 224 px takes 0.7 of the time
    (docs/log/learn.md). For a process that trains: it keeps its largest memory to its end.

    Source: mallopt(3), madvise(2).
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return False
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_ARENA_MAX, 1)
    # Addresses only: the kernel gives memory when it is first written.
    block = libc.malloc(_RESERVED)
    if not block:
        return False
    # TensorFlow's generators set the trim threshold back; a heap that does not end in free memory is not trimmed.
    libc.malloc(_HUGE_PAGE)
    start = -(-block // _HUGE_PAGE) * _HUGE_PAGE
    libc.madvise(start, (block + _RESERVED - start) // _HUGE_PAGE * _HUGE_PAGE, mmap.MADV_HUGEPAGE)
    libc.free(block)
    return True


def on_gpu() -> bool:
    """True if TensorFlow has a GPU. XLA and bfloat16 pay there; on most processors they cost."""
    return bool(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def spread(kind: str = "GPU") -> Iterator[bool]:
    """The scope in which a network is created and trained on all GPUs at once; yields whether there are several.

    Args:
        kind: TensorFlow's kind of device; "CPU" to try it on two logical ones.
    """
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    if len(names) < 2:
        yield False
        return
    with tf.distribute.MirroredStrategy(names).scope():
        yield True


@contextlib.contextmanager
def mixed_precision(backbone: keras.Model) -> Iterator[None]:
    """Computes a backbone in bfloat16 while the block lasts; its weights, and what it pools, stay float32."""
    layers = [
        layer
        for layer in backbone._flatten_layers(include_self=False)
        if not isinstance(layer, keras.layers.GlobalAveragePooling2D | keras.layers.Concatenate | keras.Model)
    ]
    before = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = keras.dtype_policies.get(MIXED)
    try:
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy
