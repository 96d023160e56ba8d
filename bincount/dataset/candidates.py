"""Which bins an ingest may take."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import logging
import re
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path

from bincount.dataset.groups import place_of
from bincount.dataset.metadata import is_bin_id
from bincount.dataset.placement import PHOTO_BYTES
from bincount.dataset.reader import METADATA, PHOTOS, KeyTemplate
from bincount.errors import ConfigError
from bincount.store.interface import Store

_log = logging.getLogger(__name__)

_GZIP = b"\x1f\x8b"
_SIZE_BITS = 48
_LARGEST = (1 << _SIZE_BITS) - 1


@dataclass(frozen=True)
class Candidates:
    """The bins an ingest chooses from.

    Attributes:
        ids: Their ids in `place_of` order.
        sizes: Size of each one's photo in bytes, in the same order; empty where nothing was listed.
        marks: A number for each that differs once its objects differ; empty where nothing was listed.
        halves: What each bin lacks that was listed by half: "photo is missing" or "metadata is missing".
    """

    ids: list[str]
    # Arrays, not dicts: half a million bins would take 130 MB more.
    sizes: array[int] = field(default_factory=lambda: array("q"))
    marks: array[int] = field(default_factory=lambda: array("Q"))
    halves: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Names them: other ids or other objects, another name."""
        hashed = hashlib.sha256()
        for bin_id, (size_bytes, mark) in zip(self.ids, self._listed(), strict=True):
            hashed.update(f"{bin_id} {size_bytes} {mark}\n".encode())
        return hashed.hexdigest()[:16]

    def listed(self, chosen: Collection[str]) -> Iterator[tuple[str, int, int]]:
        """Id, photo's size and mark of each chosen bin, in order; 57,000 bytes and 0 where they were not listed."""
        for bin_id, (size_bytes, mark) in zip(self.ids, self._listed(), strict=True):
            if bin_id in chosen:
                yield bin_id, size_bytes, mark

    def _listed(self) -> Iterator[tuple[int, int]]:
        if not self.sizes:
            return repeat((PHOTO_BYTES, 0), len(self.ids))
        return zip(self.sizes, self.marks, strict=True)


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
    """Lists every bin of a source, its photos first, then its metadata."""
    # One number a bin: its photo's size, and a mark of both objects above it.
    found: dict[str, int] = {}
    halves: dict[str, str] = {}
    for bin_id, size_bytes, mark in _list(store, PHOTOS):
        found[bin_id] = mark << _SIZE_BITS | min(size_bytes, _LARGEST)
        halves[bin_id] = "metadata is missing"
    for bin_id, _, mark in _list(store, METADATA):
        if bin_id not in found:
            halves[bin_id] = "photo is missing"
        elif halves.pop(bin_id, None) is None:
            continue
        found[bin_id] = found.get(bin_id, 0) ^ mark << _SIZE_BITS
    if not found:
        raise ConfigError(
            f"{store.source}: must hold bin-images/<id>.jpg and metadata/<id>.json, got no such object. "
            "Name the bucket or folder that holds both."
        )
    ids = sorted(found, key=place_of)
    sizes = array("q", (found[bin_id] & _LARGEST for bin_id in ids))
    marks = array("Q", (found[bin_id] >> _SIZE_BITS for bin_id in ids))
    return Candidates(ids, sizes, marks, halves)


def _list(store: Store, kind: KeyTemplate) -> Iterator[tuple[str, int, int]]:
    """Lists id, size and mark of each object that is named like a bin's."""
    others = 0
    for entry in chain.from_iterable(store.pages(kind.prefix)):
        bin_id = kind.id_of(entry.key)
        if is_bin_id(bin_id):
            marked = hashlib.blake2b(f"{kind.prefix}{entry.size_bytes} {entry.tag}".encode(), digest_size=8).digest()
            yield bin_id, entry.size_bytes, int.from_bytes(marked, "big")
        elif entry.key != kind.prefix:  # some tools make an empty object for the folder itself
            others += 1
    if others:
        text = "%s/%s: %d objects are not named <id>%s and are ignored"
        _log.warning(text, store.source, kind.prefix, others, kind.suffix)


def _read_ids(ids: str) -> list[str]:
    path = Path(ids).expanduser()
    in_range = ids_in_range(ids)
    if in_range is not None and not path.exists():
        return in_range
    try:
        data = path.read_bytes()
        text = gzip.decompress(data) if data.startswith(_GZIP) else data
        return parse_ids(text.decode("utf-8"), name=ids)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--ids: must be a text file of ids, plain or gzip, or a range such as 00001-01999, got {ids!r} ({error}). "
            "Check it."
        ) from error


_ID_COLUMNS = ("id", "bin_id", "bin")


def ids_in_range(text: str) -> list[str] | None:
    """Lists the ids from A to B, both included; None where `text` is no such range.

    The ends say which family is meant and must be of the same one: nothing is
    padded that was written without.

    Raises:
        ConfigError: If the ends are of two families or the first is the larger.

    Example:
        >>> ids_in_range("00009-00011"), ids_in_range("9-11"), ids_in_range("ids.txt")
        (['00009', '00010', '00011'], ['9', '10', '11'], None)
    """
    match = re.fullmatch(r"(\d{1,6})-(\d{1,6})", text)
    if not match:
        return None
    (family, low, _), (other, high, _) = place_of(match[1]), place_of(match[2])
    if family != other or family not in ("padded", "unpadded") or low > high:
        raise ConfigError(
            f"--ids: a range must go up within one family of ids, got {text!r}. "
            "Write 00001-01999 for padded ids, 1-1200 for unpadded ones."
        )
    return [f"{number:05d}" if family == "padded" else str(number) for number in range(low, high + 1)]


def parse_ids(text: str, *, name: str) -> list[str]:
    """Reads a list of ids: the seed's file_list.json, a CSV, or one id a line.

    In JSON, every string at any depth is an id or a path that ends in one, such
    as "data/metadata/00152.json". A CSV has a column `id`, `bin_id` or `bin`, or else its
    first column counts.

    Args:
        text: The file's content.
        name: The file's name, for messages.

    Returns:
        The ids in `place_of` order, each once.

    Raises:
        ConfigError: If the JSON is broken, an entry is no id, or there is none.
    """
    if text.lstrip()[:1] in ("{", "["):
        try:
            entries = [_stem(entry) for entry in _strings(json.loads(text))]
        except ValueError as error:
            raise ConfigError(f"{name}: must be JSON, got {error}. Fix the file.") from None
    else:
        entries = _first_column(text)
    wrong = next((entry for entry in entries if not is_bin_id(entry)), None)
    if wrong is not None or not entries:
        raise ConfigError(
            f"{name}: every entry must be a bin's id, got {wrong if entries else 'no entry'!r}. "
            "Give the seed's file_list.json, a CSV with a column id, or one id a line."
        )
    return sorted(set(entries), key=place_of)


def _strings(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _stem(path: str) -> str:
    return re.sub(r"\.(json|jpg)$", "", path.rsplit("/", 1)[-1])


def _first_column(text: str) -> list[str]:
    rows = [row for row in csv.reader(text.lstrip("\ufeff").splitlines()) if row and row[0].strip()]
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    named = next((head.index(name) for name in _ID_COLUMNS if name in head), None)
    body = rows if named is None else rows[1:]
    return [row[named or 0].strip() if len(row) > (named or 0) else "" for row in body]
