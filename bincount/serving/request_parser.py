"""The parser of requests: photos and recorded counts in the forms that MLflow's server takes, checked once.

Errors name the row and the column, and never quote the request.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from bincount.dataset.contents import Product, products_of
from bincount.dataset.photo_check import check_photo
from bincount.dataset.rejection import InvalidObject
from bincount.errors import DataError
from bincount.mismatch.verdicts import count_of
from bincount.serving.admission import SEND, RequestLimits, RequestRefused

JSON, PARQUET = "application/json", "application/vnd.apache.parquet"

# Other codecs compress by a factor of hundreds: a small body could become gigabytes.
_MILD_CODECS = {"UNCOMPRESSED", "SNAPPY"}
_PARQUET_ROWS_AT_A_TIME = 4
_COLUMNS = ("image", "recorded", "before", "counted_before", "contents")
_SHOWN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,30}")  # names of columns that an answer may repeat

_Row = tuple[bytes, Any, bytes | None, Any, Any]  # the values of `_COLUMNS`


class ParsedRequest(NamedTuple):
    """The content of a request.

    Attributes:
        photos: (N,) bytes of whole JPEG or PNG files, N >= 1.
        recorded: (N,) recorded counts, None for a bin without.
        before: (N,) an earlier photo of the bin and the count that was confirmed then, None for a bin without.
        contents: (N,) the products on each record, None for one without.
    """

    photos: list[bytes]
    recorded: list[int | None]
    before: list[tuple[bytes, int] | None]
    contents: list[tuple[Product, ...] | None]


def parse_request(body: bytes, content_type: str, limits: RequestLimits) -> ParsedRequest:
    """Reads the photos and recorded counts of a request.

    Columns that are not in `_COLUMNS`, such as an index, are ignored, as by MLflow's server. MLflow's forms `instances`
    and `inputs` are refused, as by a model in MLflow's server, since that server decodes no base64 in them.

    Args:
        body: The request's body: JSON in one of MLflow's forms with photos in base64, or parquet with photos' bytes.
        content_type: Its header.
        limits: What it may hold.

    Raises:
        RequestRefused: Naming the row, where it is about one.
    """
    kind, _, parameters = content_type.partition(";")
    match kind.strip().lower():
        case "application/json":
            rows = _rows_of_json(body, limits)
        case "application/vnd.apache.parquet":
            rows = _rows_of_parquet(body, limits)
        case _:
            raise RequestRefused(415, f"Content-Type: must be {JSON} or {PARQUET}, got another one. {SEND}")
    if parameters.replace(" ", "").lower() not in ("", "charset=utf-8"):
        raise RequestRefused(415, "Content-Type: may only add charset=utf-8, got something else. Leave it out.")
    parsed = ParsedRequest([], [], [], [])
    pixels = size = 0
    for row, (photo, recorded, before, counted_before, contents) in enumerate(rows):
        _check_rows(row + 1, limits)
        size += len(photo) + len(before or b"")
        pixels += _pixels_of(row, photo, "image") + (0 if before is None else _pixels_of(row, before, "before"))
        if size > limits.body_bytes:
            raise RequestRefused(
                413, f"request: its photos must have at most {limits.body_mb} MB, got more. Send fewer."
            )
        if pixels > limits.megapixels * 1_000_000:
            raise RequestRefused(
                413, f"request: its photos must have at most {limits.megapixels} megapixels, got more. Send fewer."
            )
        parsed.photos.append(photo)
        parsed.recorded.append(_count(row, recorded, "recorded"))
        parsed.before.append(_before(row, before, _count(row, counted_before, "counted_before")))
        parsed.contents.append(_contents(row, contents))
    if not parsed.photos:
        raise RequestRefused(400, f"request: must hold at least one row, got none. {SEND}")
    return parsed


def _rows_of_json(body: bytes, limits: RequestLimits) -> Iterator[_Row]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestRefused(400, f"request: must be JSON, got something else. {SEND}") from None
    match request:
        case {"dataframe_split": {"columns": list(names), "data": list(rows), **more}} if not more.keys() - {"index"}:
            _check_columns(names)
            named: list[dict] = [_named(names, row) if _is_row(row, names) else {} for row in rows]
        case {"dataframe_records": list(rows)}:
            named = [row if isinstance(row, dict) else {} for row in rows]
        case _:
            raise RequestRefused(
                400, f"request: must be dataframe_split or dataframe_records, got another form. {SEND}"
            )
    _check_rows(len(named), limits)
    for row, values in enumerate(named):
        before = values.get("before")
        yield (
            _decoded(row, values.get("image"), "image"),
            values.get("recorded"),
            None if before is None else _decoded(row, before, "before"),
            values.get("counted_before"),
            values.get("contents"),
        )


def _check_columns(names: list[Any]) -> None:
    if names.count("image") == 1 and all(names.count(name) <= 1 for name in _COLUMNS):
        return
    _refuse_columns(names)


def _refuse_columns(names: Iterable[Any]) -> None:
    shown = [name for name in names if isinstance(name, str) and _SHOWN.fullmatch(name)][:5]
    raise RequestRefused(
        400, f"request: must have the column image once, got {', '.join(shown) or 'no column of a plain name'}. {SEND}"
    )


def _is_row(row: Any, names: list[Any]) -> bool:
    return isinstance(row, list) and len(row) == len(names)


def _named(names: list[Any], row: list[Any]) -> dict[str, Any]:
    # A list or an object may stand among the names, too; like other columns that are not ours it is ignored.
    return {name: value for name, value in zip(names, row, strict=True) if isinstance(name, str)}


def _count(row: int, value: Any, name: str) -> int | None:
    try:
        return count_of(value, name)
    except DataError as error:
        raise RequestRefused(400, f"row {row}: {error}") from None


def _before(row: int, photo: bytes | None, counted: int | None) -> tuple[bytes, int] | None:
    if (photo is None) != (counted is None):
        missing, there = ("before", "counted_before") if photo is None else ("counted_before", "before")
        raise RequestRefused(400, f"row {row}: {there} must come with {missing}, got it alone. Send both, or neither.")
    return None if photo is None or counted is None else (photo, counted)


def _contents(row: int, value: Any) -> tuple[Product, ...] | None:
    try:
        return products_of(value)
    except DataError as error:
        raise RequestRefused(400, f"row {row}: {error}") from None


def _decoded(row: int, value: Any, name: str) -> bytes:
    try:
        if isinstance(value, str):
            return binascii.a2b_base64(value)
    except ValueError:
        pass
    found = "none" if value is None else "something else"
    raise RequestRefused(400, f"row {row}: {name} must be a photo in base64, got {found}. {SEND}")


def _rows_of_parquet(body: bytes, limits: RequestLimits) -> Iterator[_Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(pyarrow.BufferReader(body)) as file:
            columns = _checked_columns(file, limits)
            row = 0
            for batch in file.iter_batches(_PARQUET_ROWS_AT_A_TIME, columns=columns):
                read = [batch.column(name) if name in columns else [None] * len(batch) for name in _COLUMNS]
                for value, *others in zip(*read, strict=True):
                    if not value.is_valid:
                        raise RequestRefused(
                            400, f"row {row}: image must be a photo's bytes, got none. Send one a row."
                        )
                    values = (None if each is None else each.as_py() for each in others)
                    yield (value.as_py(), *values)  # type: ignore[misc]
                    row += 1
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError):
        raise RequestRefused(
            400, "request: must be a whole parquet file, got something else. Write it again."
        ) from None


def _checked_columns(file: Any, limits: RequestLimits) -> list[str]:
    """The columns to read, after a check of what they hold."""
    import pyarrow

    schema, about, kinds = file.schema_arrow, file.metadata, pyarrow.types
    columns = [name for name in schema.names if name in _COLUMNS]
    _check_columns(schema.names)
    for name in columns:
        kind = schema.field(name).type
        if name in ("image", "before"):
            if kind not in (pyarrow.binary(), pyarrow.large_binary()) and not (
                name == "before" and kinds.is_null(kind)
            ):
                raise RequestRefused(
                    400, f"request: {name} must be of photos' bytes, got another type. Send whole files."
                )
        elif name == "contents":
            if not (kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_null(kind)):
                raise RequestRefused(400, "request: contents must be JSON text, got another type. Send lists as JSON.")
        elif not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_null(kind)):
            raise RequestRefused(400, f"request: {name} must be numbers, got another type. Send counts or nulls.")
    _check_rows(about.num_rows, limits)
    groups = [about.row_group(group) for group in range(min(about.num_row_groups, limits.rows))]
    # Only of the columns that are read: on damaged metadata of others, nested ones above all, pyarrow ends the process.
    read = [number for number in range(about.num_columns) if file.schema.column(number).path in columns]
    chunks = [group.column(number) for group in groups for number in read]
    if not {chunk.compression for chunk in chunks} <= _MILD_CODECS:
        raise RequestRefused(
            400, "request: parquet must be uncompressed or snappy, got another codec. Write it uncompressed."
        )
    if sum(chunk.total_uncompressed_size for chunk in chunks) > 2 * limits.body_bytes:
        raise RequestRefused(413, f"request: its photos must have at most {limits.body_mb} MB, got more. Send fewer.")
    return columns


def _check_rows(rows: int, limits: RequestLimits) -> None:
    if rows > limits.rows:
        raise RequestRefused(
            413, f"request: must hold at most {limits.rows} rows, got more. Send them in several requests."
        )


def _pixels_of(row: int, photo: bytes, name: str) -> int:
    try:
        header = check_photo(photo, name)
    except InvalidObject as error:
        raise RequestRefused(400, f"row {row}: {name} must be a whole JPEG or PNG file: {error.reason}.") from None
    return header.width_px * header.height_px
