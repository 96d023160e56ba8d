"""Candidates: the bins that an ingest or an evaluation chooses from, from a listing of the source or a list of ids."""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import repeat

from bincount.config import FetchConfig
from bincount.dataset.groups import sort_key_of
from bincount.dataset.ids import check_padding, counterparts_of, ids_in_range, is_padded, read_ids
from bincount.dataset.keys import METADATA_PREFIX, METADATA_SUFFIX, PHOTO_PREFIX, PHOTO_SUFFIX, metadata_key, photo_key
from bincount.dataset.metadata import is_bin_id
from bincount.dataset.placement import PHOTO_BYTES
from bincount.dataset.rejection import NO_METADATA, NO_PHOTO, Rejection
from bincount.errors import ConfigError
from bincount.store.interface import Store

_log = logging.getLogger(__name__)

_SIZE_BITS = 48
_LARGEST = (1 << _SIZE_BITS) - 1


@dataclass(frozen=True)
class Candidates:
    """The bins an ingest chooses from.

    Attributes:
        ids: Their ids in `sort_key_of` order.
        sizes: Size of each one's photo in bytes, in the same order; empty where nothing was listed.
        fingerprints: A number for each that changes with its objects; empty where nothing was listed.
        incomplete: What each bin lacks that was listed by half: "photo is missing" or "metadata is missing".
    """

    ids: list[str]
    # Arrays, not dicts: half a million bins would take 130 MB more.
    sizes: array[int] = field(default_factory=lambda: array("q"))
    fingerprints: array[int] = field(default_factory=lambda: array("Q"))
    incomplete: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of ids and objects: 16 hex digits."""
        hashed = hashlib.sha256()
        for bin_id, (size_bytes, fingerprint) in zip(self.ids, self._objects(), strict=True):
            hashed.update(f"{bin_id} {size_bytes} {fingerprint}\n".encode())
        return hashed.hexdigest()[:16]

    def entries(self, chosen: Collection[str]) -> Iterator[tuple[str, int, int]]:
        """Id, photo size in bytes and fingerprint of each chosen bin, in order; 57,000 and 0 if unlisted."""
        for bin_id, (size_bytes, fingerprint) in zip(self.ids, self._objects(), strict=True):
            if bin_id in chosen:
                yield bin_id, size_bytes, fingerprint

    def _objects(self) -> Iterator[tuple[int, int]]:
        if not self.sizes:
            return repeat((PHOTO_BYTES, 0), len(self.ids))
        return zip(self.sizes, self.fingerprints, strict=True)


def find_candidates(store: Store, ids: str | None) -> Candidates:
    """Reads the ids of a list, or lists the source.

    Args:
        store: The source; listed only if `ids` is None.
        ids: A file of ids, a range such as "00001-01999", or None for all.

    Raises:
        ConfigError: If `ids` is no such thing, or the source holds no bin.
        StoreError: If the source does not answer.
    """
    return list_candidates(store) if ids is None else Candidates(read_ids(ids))


def check_ids(store: Store, ids: str | None, given: Sequence[str], rejected: Iterable[Rejection]) -> None:
    """Checks that the ids in a file have not lost their leading zeros: see `check_padding`.

    Args:
        store: The source; at most 200 objects are read, and none if all ids exist and one has leading zeros.
        ids: The `--ids` option. Nothing is checked where it names no file.
        given: The ids of that file.
        rejected: Bins among them that were set aside, those without metadata included.

    Raises:
        DataError: If ids are missing and their counterparts with or without zeros are not.
        StoreError: If the source does not answer.
    """
    if ids is None or ids_in_range(ids):
        return
    missing = {one.id for one in rejected if one.reason == NO_METADATA}
    listed = set(given)
    lookups = counterparts_of(sorted(missing)) + ([] if any(map(is_padded, given)) else counterparts_of(given))
    with closing(store.fetch(map(metadata_key, lookups), workers=FetchConfig.workers)) as answers:
        existing = {bin_id for bin_id, answer in zip(lookups, answers, strict=True) if answer.data is not None}
    check_padding(
        given, lambda bin_id: (bin_id in listed and bin_id not in missing) or bin_id in existing, f"--ids {ids}"
    )


def list_candidates(store: Store) -> Candidates:
    """Lists every bin of a source, its photos first, then its metadata."""
    # One number a bin: its photo's size, and above it a fingerprint of both objects.
    packed: dict[str, int] = {}
    incomplete: dict[str, str] = {}
    for bin_id, size_bytes, fingerprint in _list(store, PHOTO_PREFIX, PHOTO_SUFFIX):
        packed[bin_id] = fingerprint << _SIZE_BITS | min(size_bytes, _LARGEST)
        incomplete[bin_id] = NO_METADATA
    for bin_id, _, fingerprint in _list(store, METADATA_PREFIX, METADATA_SUFFIX):
        if bin_id not in packed:
            incomplete[bin_id] = NO_PHOTO
        elif incomplete.pop(bin_id, None) is None:
            continue
        packed[bin_id] = packed.get(bin_id, 0) ^ fingerprint << _SIZE_BITS
    if not packed:
        raise ConfigError(
            f"{store.source}: must hold {photo_key('<id>')} and {metadata_key('<id>')}, got no such object. "
            "Name the bucket or folder that holds both."
        )
    ids = sorted(packed, key=sort_key_of)
    sizes = array("q", (packed[bin_id] & _LARGEST for bin_id in ids))
    fingerprints = array("Q", (packed[bin_id] >> _SIZE_BITS for bin_id in ids))
    return Candidates(ids, sizes, fingerprints, incomplete)


def _list(store: Store, prefix: str, suffix: str) -> Iterator[tuple[str, int, int]]:
    """Lists id, size and fingerprint of each object whose name is that of a bin."""
    others = 0
    for bin_id, size_bytes, tag in _entries(store, prefix, suffix):
        if is_bin_id(bin_id):
            marked = hashlib.blake2b(f"{prefix}{size_bytes} {tag}".encode(), digest_size=8).digest()
            yield bin_id, size_bytes, int.from_bytes(marked, "big")
        else:
            others += 1
    if others:
        _log.warning("%s/%s: %d objects are not named <id>%s and are ignored", store.source, prefix, others, suffix)


def _entries(store: Store, prefix: str, suffix: str) -> Iterator[tuple[str, int, str]]:
    for page in store.pages(prefix):
        for entry in page:
            name = entry.key.removeprefix(prefix)
            if name:  # some tools make an empty object for the folder itself
                yield name.removesuffix(suffix) if name.endswith(suffix) else "", entry.size_bytes, entry.tag
