"""Which bins are asked for by name."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable

from bincount.core.errors import ConfigError
from bincount.core.groups import place_of
from bincount.core.records import is_bin_id

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
