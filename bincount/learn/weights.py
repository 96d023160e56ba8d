"""Sources of a backbone's weights, and what happens when they cannot be had."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import keras

from bincount.errors import ConfigError, StoreError
from bincount.files import sha256_of_file
from bincount.learn import efficientnet_lite

TIMEOUT_S = 20.0
"""Longest silence of the server of the ImageNet weights."""

_HOST = "https://storage.googleapis.com/"  # of every file of keras.applications
_LOG = logging.getLogger(__name__)

Builder = Callable[[str | None], keras.Model]
"""Builds a network with the weights "imagenet", or random ones for None."""


def load_network(build: Builder, name: str, weights: str, *, seed: int) -> tuple[keras.Model, str]:
    """Builds a network with the given weights.

    Args:
        build: Builds the network.
        name: Name of the network, such as "ResNet50".
        weights: "imagenet" or "auto" (Keras' own file, its checksum verified, or an installed package's), "none"
            (random), or the path of a .weights.h5, .h5 or .keras file.
        seed: What random weights are drawn from.

    Returns:
        The network, and what its weights are: "imagenet", "none" or the
        SHA-256 of the file (16 hex digits).

    Raises:
        ConfigError: If the file is absent or holds another network's weights.
        StoreError: If "imagenet" cannot be downloaded; a server is silent for at most `TIMEOUT_S`.
    """
    if weights in {"auto", "imagenet"}:
        return _fetch(build, name), "imagenet"
    keras.utils.set_random_seed(seed)
    network = build(None)
    return (network, "none") if weights == "none" else (network, _load_file(network, name, Path(weights)))


def answers(url: str, *, timeout_s: float = TIMEOUT_S) -> bool:
    """True if a web server answers at all, decided within `timeout_s` seconds, name lookup included."""
    answered = threading.Event()

    def request() -> None:
        with contextlib.suppress(OSError):
            try:
                urllib.request.urlopen(url, timeout=timeout_s).close()  # noqa: S310  the address is a constant
            except urllib.error.HTTPError as refusal:  # an error status is an answer too
                refusal.close()
            answered.set()
        finished.set()

    finished = threading.Event()
    threading.Thread(target=request, daemon=True).start()  # a name lookup that hangs must not block the caller
    finished.wait(timeout_s)
    return answered.is_set()


def _fetch(build: Builder, name: str) -> keras.Model:
    if name == efficientnet_lite.NAME:
        return build("imagenet")
    if not _is_cached(name) and not answers(_HOST):
        raise StoreError(
            f"weights=imagenet: {_HOST} must answer within {TIMEOUT_S:.0f} s, got no answer. "
            "Try again with a network, name a file of weights, or use backbone=auto."
        )
    try:
        with _silence_limited(), contextlib.redirect_stdout(sys.stderr):  # Keras draws its progress on stdout
            return build("imagenet")
    except Exception as error:
        # Keras raises Exception or ValueError for every failure (HTTP, timeout, checksum).
        raise StoreError(
            f"weights=imagenet: Keras' file for {name} must be downloaded whole, got {error}. "
            "Try again, name a file of weights, or use backbone=auto."
        ) from error


@contextlib.contextmanager
def _silence_limited() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _is_cached(name: str) -> bool:
    """True if Keras' cache has a headless file that looks like this network's; Keras checks it when it loads it."""
    from keras.src.backend.config import keras_home  # no public name; Keras is pinned

    folder = Path(keras_home()) / "models"
    wanted = name.lower()
    return any(
        re.sub("[^a-z0-9]", "", path.name.lower()).startswith((wanted, f"weights{wanted}"))
        for path in folder.glob("*no*top*")
    )


def _load_file(network: keras.Model, name: str, path: Path) -> str:
    if path.suffix not in {".h5", ".keras"} or not path.is_file():
        raise ConfigError(
            f"weights: must be auto, imagenet, none or a .weights.h5, .h5 or .keras file, got {str(path)!r}. "
            "Name a file that exists."
        )
    try:
        if path.suffix == ".keras":
            network.set_weights(keras.saving.load_model(path, compile=False, safe_mode=True).get_weights())
        else:
            network.load_weights(path)
    except Exception as error:  # h5py and Keras raise many kinds for a file that does not fit
        raise ConfigError(
            f"weights: {str(path)!r} must hold the weights of {name} without its top, got {str(error)[:200]}. "
            "Name a file that fits the backbone."
        ) from error
    return sha256_of_file(path)[:16]
