"""The cache of features: what `prepare` computes and the steps after it read."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bincount.counts import Counts
from bincount.dataset.manifest import Manifest, read_manifest
from bincount.dataset.partition import ALL, Partition
from bincount.dataset.shards import shard_paths
from bincount.errors import ConfigError, DataError
from bincount.files import read_json
from bincount.settings import Settings
from bincount.store.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from bincount.learn.feature_extraction import Examples, Forward
    from bincount.learn.photo_batches import Photos

_log = logging.getLogger(__name__)

_LOG_EVERY_S = 5.0
NETWORK = "backbone.keras"
"""The saved network in a folder of features."""
NETWORK_FILES = "backbone*"
"""It, its exports and the note of them."""


@dataclass(frozen=True)
class CachedFeatures:
    """The features of one manifest's bins.

    Attributes:
        folder: The cache that holds them, and the network they come from.
        manifest: The bins.
        facts: `manifest` (digest), `backbone`, `weights`, `fit`, `image_px` and `precision`.
    """

    folder: Path
    manifest: Manifest
    facts: dict[str, Any]

    @property
    def backbone_path(self) -> Path:
        """The saved network, from photos to features."""
        return self.folder / NETWORK

    def photos(self, settings: Settings, *parts: str, counts: Counts) -> Photos:
        """Photos of some parts, and their classes among the counts."""
        from bincount.learn.photo_batches import Photos

        facts, paths = self.facts, shard_paths(settings, self.manifest.shards)
        return Photos(self.manifest, parts, paths, counts, image_px=facts["image_px"], fit=facts["fit"])

    def examples(self, part: str) -> Examples:
        """Features and classes of one part."""
        from bincount.learn.feature_extraction import read_examples

        return read_examples(self.folder, self.manifest, part)


def read_features(settings: Settings, key: str) -> CachedFeatures:
    """Finds what `prepare` named `key`; features damaged since then are computed again.

    Raises:
        ConfigError: If there is nothing of that name.
        DataError: If a shard that is needed again is damaged.
    """
    match = re.fullmatch(r"([0-9a-f]{16})-([0-9a-f]{16})", key)
    folder, manifest = match.groups() if match else ("", "")
    note = settings.features / folder / f"{manifest}.json"
    facts = None
    if match:
        shared = open_workspace(settings)
        shared.pull(note)
        shared.pull_folder(note.parent, NETWORK_FILES)
        facts = read_json(note)
    if facts is None:
        raise ConfigError(f"features: must be a key that prepare printed, got {key!r}. Run `bincount prepare` first.")
    prepared = CachedFeatures(note.parent, read_manifest(settings, manifest), facts)
    compute_missing(settings, prepared)
    return prepared


def compute_missing(settings: Settings, prepared: CachedFeatures, share: Partition = ALL) -> float | None:
    """Computes the features that are missing for a share of the shards, and logs the progress.

    Waits for other processes that compute the same shard.

    Returns:
        Photos a second, None if nothing was left to compute.

    Raises:
        DataError: If a shard, a photo or the network is damaged.
    """
    from bincount.learn.feature_extraction import extract_features, files_of, missing_features

    shared, rates = open_workspace(settings), list[float]()
    shards = share.pick(prepared.manifest.shards)
    files = [file for shard in shards for file in files_of(prepared.folder, shard)]
    shared.pull(*files)
    shared.push(*files)  # what a killed attempt has computed and not shared
    if missing := missing_features(prepared.folder, shards):
        forward, width = _forward_of(prepared)
        extract_features(
            prepared.folder,
            dict(zip(missing, shard_paths(settings, missing), strict=True)),
            forward,
            width=width,
            image_px=prepared.facts["image_px"],
            fit=prepared.facts["fit"],
            alone=partial(_alone, shared),
            on_progress=_progress(rates),
        )
    return rates[-1] if rates else None


@contextlib.contextmanager
def _alone(shared: Workspace, files: tuple[Path, Path]) -> Iterator[None]:
    """A lock on the features of one shard, which are shared at its end."""
    array, _ = files
    with shared.lock(array.with_suffix(".lock"), f"features {array.stem}"):
        shared.pull(*files)
        yield
        shared.push(*files)


def _forward_of(prepared: CachedFeatures) -> tuple[Forward, int]:
    """The function that computes features on this machine, and their number per photo."""
    from bincount.learn.engine import has_gpu, is_whole_network, load_keras, open_network
    from bincount.learn.feature_extraction import engine_forward, keras_forward

    if not is_whole_network(prepared.backbone_path):
        raise DataError(
            f"{prepared.backbone_path}: must be the network that prepare saved, got a damaged file or none. "
            "Run `bincount prepare` again."
        )
    image_px = prepared.facts["image_px"]
    if has_gpu():
        model = load_keras(prepared.backbone_path)
        return keras_forward(model, image_px), model.output.shape[1]
    network = open_network(prepared.backbone_path, precision=prepared.facts["precision"])
    _log.info("features: %s, %s", network.library, network.precision)
    return engine_forward(network), network(np.zeros((1, image_px, image_px, 3), np.uint8))[0].shape[1]


def _progress(rates: list[float]) -> Callable[[int, int, float], None]:
    logged = time.monotonic()

    def log(done: int, total: int, rate: float) -> None:
        nonlocal logged
        rates.append(rate)
        if time.monotonic() - logged > _LOG_EVERY_S or done == total:
            logged = time.monotonic()
            _log.info("features: %d of %d photos, %.1f a second, %.0f s left", done, total, rate, (total - done) / rate)

    return log
