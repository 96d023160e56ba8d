"""Lists of bin ids: a range, or a file; and the check for ids that lost their leading zeros.

The bucket holds two families of ids whose numbers collide: `00523` and `523` are different bins.
"""

from __future__ import annotations

import csv
import gzip
import json
import logging
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path

from bincount.dataset.groups import sort_key_of
from bincount.dataset.metadata import is_bin_id
from bincount.errors import ConfigError, DataError

_log = logging.getLogger(__name__)

_GZIP = b"\x1f\x8b"
_ID_COLUMNS = ("id", "bin_id", "bin")
_PADDED_DIGITS = 5
# Ids of which the counterpart is looked up: a lookup may be a request to a bucket.
_MOST_LOOKUPS = 100


def read_ids(ids: str) -> list[str]:
    """Reads a range such as "00001-01999", or a text file of ids, plain or gzip.

    Raises:
        ConfigError: If it is neither, or an entry is not an id.
    """
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


def ids_in_range(text: str) -> list[str] | None:
    """Lists the ids from A to B, both included; None where `text` is no such range.

    The ends define the family and must be of the same one: nothing is
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
    (family, low, _), (other, high, _) = sort_key_of(match[1]), sort_key_of(match[2])
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
        The ids in `sort_key_of` order, each once.

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
    return sorted(set(entries), key=sort_key_of)


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


def counterpart_of(bin_id: str) -> str | None:
    """The id of the same number in the other family, None where there is none.

    Example:
        >>> counterpart_of("523"), counterpart_of("00523"), counterpart_of("100523")
        ('00523', '523', None)
    """
    family, number, _ = sort_key_of(bin_id)
    if family == "unpadded":
        return f"{number:0{_PADDED_DIGITS}d}"
    return str(number) if family == "padded" and bin_id.startswith("0") else None


def counterparts_of(ids: Sequence[str]) -> list[str]:
    """The counterparts that `check_padding` looks up for these ids: at most 100, at even distances."""
    return [other for _, other in _spread(_pairs(ids))]


def check_padding(given: Iterable[str], exists: Callable[[str], bool] | Collection[str], where: str) -> None:
    """Checks that ids are written with the leading zeros that they have in their source.

    A spreadsheet turns `00523` into `523`. In a source with both families some of the shortened ids exist by
    accident and name other bins, so one id that exists only in its other spelling refuses the whole list. A list of
    both families was not altered and passes. Where every id exists as it is written, nothing shows which spelling was
    meant: a list without leading zeros is logged as a warning if the padded counterpart of an id exists too.

    Args:
        given: The ids as they were read.
        exists: The ids of the source, or whether the source holds an id; called for each given id and for at most 200
            counterparts.
        where: File or option that names the ids, for the message.

    Raises:
        DataError: If ids are missing from the source and their counterparts with or without zeros are in it.
    """
    in_source = exists if callable(exists) else exists.__contains__
    pairs = _pairs(given)
    if len({is_padded(bin_id) for bin_id, _ in pairs}) != 1:
        return
    missing = _spread([pair for pair in pairs if not in_source(pair[0])])
    if respelled := list(islice((pair for pair in missing if in_source(pair[1])), 3)):
        examples = ", ".join(f"{bin_id!r} (the source has {other!r})" for bin_id, other in respelled)
        raise DataError(
            f"{where}: ids must be written as in the source, got {examples}. 523 and 00523 are different bins. "
            "Spreadsheets drop leading zeros: format the column as text before the file is opened or imported, "
            "or export the file again."
        )
    if is_padded(pairs[0][0]):
        return
    if both := next((pair for pair in _spread(pairs) if in_source(pair[1])), None):
        text = "%s: no id has leading zeros, and the source holds %r as well as %r, another bin. Check the ids."
        _log.warning(text, where, *both)


def is_padded(bin_id: str) -> bool:
    """True if an id begins with a zero that a spreadsheet would drop."""
    return bin_id.startswith("0") and bin_id != "0"


def _pairs(ids: Iterable[str]) -> list[tuple[str, str]]:
    return [(bin_id, other) for bin_id in ids if (other := counterpart_of(bin_id)) is not None]


def _spread(pairs: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """At most 100 of the pairs, at even distances."""
    return pairs[:: max(1, -(-len(pairs) // _MOST_LOOKUPS))]
