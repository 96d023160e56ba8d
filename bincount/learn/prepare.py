"""Features of a manifest's photos, computed once, by one worker or by several."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bincount.config import NetworkConfig
from bincount.dataset.manifest import Manifest, Record, read_manifest
from bincount.dataset.partition import ALL, Partition
from bincount.errors import DataError
from bincount.files import digest_of, read_json, rename_damaged, write_json
from bincount.learn.engine import BFLOAT16, FLOAT32, checked_precisions, has_bfloat16, has_gpu, is_whole_network
from bincount.learn.feature_cache import NETWORK, NETWORK_FILES, CachedFeatures, compute_missing, shard_paths
from bincount.settings import Settings
from bincount.store.workspace import open_workspace
from bincount.tracking import runs

if TYPE_CHECKING:
    from bincount.learn.backbone import Backbone

_log = logging.getLogger(__name__)

_VERSION = 3  # of what is computed; raise it when the same settings would give other features


def prepare(
    settings: Settings,
    *,
    run_id: str,
    manifest: str,
    share: str = "1/1",
    **network: Any,
) -> dict:
    """Computes the backbone's features of every bin of a manifest, once.

    Features are shared between runs: what is in the cache is not computed
    again. The weights are chosen once per run. Several workers that share the
    workspace may each compute a share of the shards at the same time; with all
    shards as the share, it computes what they have left.

    Args:
        settings: Where things are on this machine.
        run_id: The MLflow run.
        manifest: Digest of the bins.
        share: Which share of the shards to compute, such as "1/3".
        **network: What `NetworkConfig` takes.

    Returns:
        `features`, the key of the features, the `backbone` that was chosen, and its `weights`: "imagenet", "none"
        or the digest of the file.

    Raises:
        ConfigError: If the backbone, its weights' file, the image settings or the share are wrong, or the run
            was begun with others.
        DataError: If a shard or a photo is damaged.
        StoreError: If ImageNet weights are required and cannot be downloaded, or the tracking server does not answer.
    """
    part = Partition.parse(share)
    config: dict[str, Any] = {"manifest": manifest, **asdict(NetworkConfig(**network))}
    shared = open_workspace(settings)
    with shared.lock(settings.run(run_id) / "prepare.lock", "network of this run"):
        prepared = _network_of(settings, run_id, config)
    with runs.watch_machine(settings, run_id) if part == ALL else contextlib.nullcontext():
        rate = compute_missing(settings, prepared, part)
    if rate is None:
        _log.info("prepare: nothing is left to compute")
    else:
        which = "" if part == ALL else f"/{part.number}"
        runs.log_metrics(settings, run_id, {f"prepare/photos_per_s{which}": rate})
    note = prepared.folder / f"{manifest}.json"
    shared.pull(note)
    write_json(note, prepared.facts)
    shared.push(note)
    return {
        "features": f"{prepared.folder.name}-{manifest}",
        "backbone": prepared.facts["backbone"],
        "weights": prepared.facts["weights"],
    }


def _network_of(settings: Settings, run_id: str, config: dict[str, Any]) -> CachedFeatures:
    """The network that the run decided for, or decides for now."""
    runs.log_params(settings, run_id, config)
    shared, note = open_workspace(settings), settings.run(run_id) / "prepare.json"
    shared.pull(note)
    before = read_json(note)
    if before:
        shared.pull_folder(settings.features / before["folder"], NETWORK_FILES)
    if before and before.get("config") == config and is_whole_network(settings.features / before["folder"] / NETWORK):
        shared.push(note)
        bins = read_manifest(settings, config["manifest"])
        return CachedFeatures(settings.features / before["folder"], bins, before["facts"])
    prepared, why = _resolve(settings, **config)
    choice = {"backbone_choice": why} if why else {}
    tags = {name: prepared.facts[name] for name in ("backbone", "weights", "manifest")}
    runs.log_tags(settings, run_id, {**tags, **choice})
    write_json(note, {"config": config, "folder": prepared.folder.name, "facts": prepared.facts, **choice})
    shared.push(note)
    return prepared


def choice_of(settings: Settings, run_id: str, features: str) -> dict[str, str]:
    """`backbone_choice`, why the run's own `prepare` chose the network of the features; empty if it did not choose."""
    note = read_json(settings.run(run_id) / "prepare.json")
    if note is None or "backbone_choice" not in note or features != f"{note['folder']}-{note['facts']['manifest']}":
        return {}
    return {"backbone_choice": note["backbone_choice"]}


def _resolve(
    settings: Settings, *, manifest: str, backbone: str, weights: str, fit: str, image_px: int, seed: int
) -> tuple[CachedFeatures, str]:
    """Builds the network, or finds it in the cache, and names the folder of its features; and why it was chosen."""
    from bincount.learn.backbone import build_backbone

    bins = read_manifest(settings, manifest)
    _log.info("prepare: building %s with weights=%s", backbone, weights)
    network = build_backbone(backbone, weights, image_px=image_px, seed=seed)
    facts = {
        "manifest": manifest,
        "backbone": network.name,
        "weights": network.weights,
        "fit": fit,
        "image_px": image_px,
    }
    facts["precision"] = BFLOAT16 if has_bfloat16() and not has_gpu() else FLOAT32
    photographed = _draw(bins, seed) if network.weights == "none" else []
    made_of = {
        **facts,
        "version": _VERSION,
        "photos": [record.id for record in photographed],
        "seed": seed * (network.weights == "none"),
    }
    del made_of["manifest"]  # features are a matter of photo and network: other bins may share them
    prepared = CachedFeatures(settings.features / digest_of(made_of), bins, facts)
    shared = open_workspace(settings)
    with shared.lock(prepared.folder / "backbone.lock", "network"):
        shared.pull_folder(prepared.folder, NETWORK_FILES)
        if not is_whole_network(prepared.backbone_path):
            _save_network(settings, prepared, network, photographed)
        shared.push(*prepared.folder.glob(NETWORK_FILES))
    if facts["precision"] not in checked_precisions(prepared.backbone_path):
        facts["precision"] = FLOAT32
    return prepared, network.why


def _save_network(settings: Settings, prepared: CachedFeatures, network: Backbone, photographed: list[Record]) -> None:
    import numpy as np

    from bincount.learn.backbone import set_statistics
    from bincount.learn.engine import files_of, note_of, save_network
    from bincount.learn.photo_batches import load_photos

    if photographed:
        facts = prepared.facts
        paths = shard_paths(settings, prepared.manifest.shards)
        photos = load_photos(photographed, paths, image_px=facts["image_px"], fit=facts["fit"])
        set_statistics(network, photos)
    rename_damaged(prepared.backbone_path)
    beside = prepared.folder / "beside.keras"
    some = np.stack([np.random.default_rng(0).integers(0, 256, network.model.input.shape[1:], np.uint8)])
    save_network(network.model, beside, some)
    note = read_json(note_of(beside)) or {}
    note["files"] = {name.replace("beside", "backbone"): digest for name, digest in note["files"].items()}
    write_json(note_of(beside), note)
    for file in files_of(beside):
        file.replace(prepared.folder / file.name.replace("beside", "backbone"))


def _draw(bins: Manifest, seed: int) -> list[Record]:
    """The training bins that set the statistics of random weights."""
    import numpy as np

    from bincount.learn.backbone import STATISTICS_PHOTOS

    records = bins.part("train")
    if not records:
        raise DataError("prepare: the train part must hold a bin, got none. Ingest more bins.")
    chosen = np.random.default_rng(seed).permutation(len(records))[:STATISTICS_PHOTOS]
    return [records[index] for index in sorted(chosen)]
