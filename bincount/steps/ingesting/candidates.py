"""Which bins an ingest may take."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bincount.core.errors import ConfigError
from bincount.core.ids import ids_in_range, parse_ids
from bincount.core.plan import in_order
from bincount.core.records import is_bin_id
from bincount.edge.store import Store

log = logging.getLogger(__name__)

_PHOTOS, _METADATA = ("bin-images/", ".jpg"), ("metadata/", ".json")


@dataclass(frozen=True)
class Candidates:
    """The bins an ingest chooses from.

    Attributes:
        ids: Their ids in `place_of` order.
        sizes: Size of each photo in bytes, where it was listed.
        marks: A number that differs once a bin's objects differ, where they were listed.
        halves: What each bin lacks that was listed by half: "photo is missing" or "metadata is missing".
    """

    ids: list[str]
    sizes: dict[str, int] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    halves: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Names them: other ids or other objects, another name."""
        hashed = hashlib.sha256()
        for bin_id in self.ids:
            hashed.update(f"{bin_id} {self.sizes.get(bin_id)} {self.marks.get(bin_id)}\n".encode())
        return hashed.hexdigest()[:16]


def find_candidates(store: Store, ids: str | None) -> Candidates:
    """Takes the bins that were asked for by name, or lists all there are.

    Args:
        store: Where they are. It is asked only if `ids` is None.
        ids: A file of ids, a range such as "00001-01999", or None for all.

    Raises:
        ConfigError: If `ids` is no such thing, or the source holds no bin.
        StoreError: If the source does not answer.
    """
    return list_candidates(store) if ids is None else Candidates(_read_ids(ids))


def list_candidates(store: Store) -> Candidates:
    """Lists every bin of a source, photos and metadata at the same time."""
    with ThreadPoolExecutor(2) as pool:
        photos, metadata = pool.map(lambda kind: _list(store, *kind), (_PHOTOS, _METADATA))
    ids = in_order({*photos, *metadata})
    if not ids:
        raise ConfigError(
            f"{store.source}: must hold bin-images/<id>.jpg and metadata/<id>.json, got no such object. "
            "Name the bucket or folder that holds both."
        )
    halves = dict.fromkeys(metadata.keys() - photos.keys(), "photo is missing")
    halves |= dict.fromkeys(photos.keys() - metadata.keys(), "metadata is missing")
    nothing = (0, 0)
    return Candidates(
        ids,
        sizes={bin_id: size for bin_id, (size, _) in photos.items()},
        marks={bin_id: photos.get(bin_id, nothing)[1] ^ metadata.get(bin_id, nothing)[1] for bin_id in ids},
        halves=halves,
    )


def _list(store: Store, prefix: str, suffix: str) -> dict[str, tuple[int, int]]:
    """Lists size and mark of each object that is named like a bin's."""
    found, others = {}, 0
    for bin_id, size, tag in _entries(store, prefix, suffix):
        if is_bin_id(bin_id):
            marked = hashlib.blake2b(f"{prefix}{size} {tag}".encode(), digest_size=8).digest()
            found[bin_id] = (size, int.from_bytes(marked, "big"))
        else:
            others += 1
    if others:
        log.warning("%s/%s: %d objects are not named <id>%s and are left alone", store.source, prefix, others, suffix)
    return found


def _entries(store: Store, prefix: str, suffix: str) -> Iterator[tuple[str, int, str]]:
    for page in store.pages(prefix):
        for entry in page:
            name = entry.key.removeprefix(prefix)
            if name:  # some tools make an empty object for the folder itself
                yield name.removesuffix(suffix) if name.endswith(suffix) else "", entry.size_bytes, entry.tag


def _read_ids(ids: str) -> list[str]:
    path = Path(ids).expanduser()
    in_range = ids_in_range(ids)
    if in_range is not None and not path.exists():
        return in_range
    try:
        return parse_ids(path.read_text(encoding="utf-8"), name=str(ids))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--ids: must be a text file of ids or a range such as 00001-01999, got {ids!r} ({error}). Check it."
        ) from error
