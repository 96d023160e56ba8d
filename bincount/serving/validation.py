"""Looks at a request before MLflow does: refuses what is too large or no photo, without quoting it."""

from __future__ import annotations

import asyncio
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bincount.dataset.photo_check import check_photo
from bincount.dataset.rejection import InvalidObject
from bincount.errors import DataError
from bincount.mismatch.verdicts import recorded_of
from bincount.serving.admission import SEND, RequestLimits, RequestRefused

JSON, PARQUET = "application/json", "application/vnd.apache.parquet"

# Others reach hundreds of times: a small body that becomes gigabytes.
_MILD_CODECS = {"UNCOMPRESSED", "SNAPPY"}
_PARQUET_ROWS_AT_A_TIME = 4
_PARQUET_COLUMNS = (["image"], ["image", "recorded"], ["recorded", "image"])
_SHOWN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,30}")  # names of columns that an answer may repeat


def check_request(body: bytes, content_type: str, limits: RequestLimits) -> int:
    """Passes only what MLflow's scoring app will read as a table of photos.

    Args:
        body: The request's body.
        content_type: Its header.
        limits: What it may hold.

    Returns:
        The number of photos, >= 1.

    Raises:
        Refused: Naming the row, where it is about one.
    """
    kind, _, parameters = content_type.partition(";")
    if parameters.replace(" ", "").lower() not in ("", "charset=utf-8"):
        raise RequestRefused(415, "Content-Type: may only add charset=utf-8, got something else. Leave it out.")
    match kind.strip().lower():
        case "application/json":
            photos = _photos_in_json(body, limits)
        case "application/vnd.apache.parquet":
            photos = _photos_in_parquet(body, limits)
        case _:
            raise RequestRefused(415, f"Content-Type: must be {JSON} or {PARQUET}, got another one. {SEND}")
    rows, pixels, size = 0, 0, 0
    for row, photo in enumerate(photos):
        rows, size = row + 1, size + len(photo)
        pixels += _pixels_of(row, photo)
        _check_rows(rows, limits)
        if size > limits.body_bytes:
            raise RequestRefused(
                413, f"request: its photos must have at most {limits.body_mb} MB, got more. Send fewer."
            )
        if pixels > limits.megapixels * 1_000_000:
            raise RequestRefused(
                413, f"request: its photos must have at most {limits.megapixels} megapixels, got more. Send fewer."
            )
    if not rows:
        raise RequestRefused(400, f"request: must hold at least one row, got none. {SEND}")
    return rows


def _photos_in_json(body: bytes, limits: RequestLimits) -> Iterator[bytes]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestRefused(400, f"request: must be JSON, got something else. {SEND}") from None
    match request:
        case {"dataframe_split": {"columns": list(names), "data": list(rows), **more}} if not more.keys() - {"index"}:
            _check_columns(names)
            named = [dict(zip(names, row, strict=False)) if _is_row(row, names) else {} for row in rows]
        case {"dataframe_records": list(rows)}:
            named = [row if isinstance(row, dict) else {} for row in rows]
        case _:
            raise RequestRefused(
                400, f"request: must be dataframe_split or dataframe_records, got another form. {SEND}"
            )
    _check_rows(len(named), limits)
    for row, values in enumerate(named):
        _check_recorded(row, values.get("recorded"))
        yield _decoded(row, values.get("image"))


def _check_columns(names: list[Any]) -> None:
    """Other columns than image and recorded, such as an index, are ignored, as MLflow's server does."""
    if names.count("image") == 1 and names.count("recorded") <= 1:
        return
    shown = [name for name in names if isinstance(name, str) and _SHOWN.fullmatch(name)][:5]
    raise RequestRefused(
        400, f"request: must have the column image once, got {', '.join(shown) or 'no column of a plain name'}. {SEND}"
    )


def _is_row(row: Any, names: list[str]) -> bool:
    return isinstance(row, list) and len(row) == len(names)


def _check_recorded(row: int, value: Any) -> None:
    try:
        recorded_of(value)
    except DataError as error:
        raise RequestRefused(400, f"row {row}: {error}") from None


def _decoded(row: int, value: Any) -> bytes:
    try:
        if isinstance(value, str):
            return binascii.a2b_base64(value)
    except ValueError:
        pass
    found = "none" if value is None else "something else"
    raise RequestRefused(400, f"row {row}: image must be a photo in base64, got {found}. {SEND}")


def _photos_in_parquet(body: bytes, limits: RequestLimits) -> Iterator[bytes]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(pyarrow.BufferReader(body)) as file:
            _check_parquet(file, limits)
            row = 0
            for batch in file.iter_batches(_PARQUET_ROWS_AT_A_TIME):
                recorded = batch.column("recorded") if "recorded" in batch.schema.names else [None] * len(batch)
                for value, count in zip(batch.column("image"), recorded, strict=True):
                    if not value.is_valid:
                        raise RequestRefused(
                            400, f"row {row}: image must be a photo's bytes, got none. Send one a row."
                        )
                    _check_recorded(row, None if count is None else count.as_py())
                    yield value.as_py()
                    row += 1
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError):
        raise RequestRefused(
            400, "request: must be a whole parquet file, got something else. Write it again."
        ) from None


def _check_parquet(file: Any, limits: RequestLimits) -> None:
    import pyarrow

    schema, about = file.schema_arrow, file.metadata
    if schema.names not in _PARQUET_COLUMNS or schema.field("image").type not in (
        pyarrow.binary(),
        pyarrow.large_binary(),
    ):
        raise RequestRefused(
            400,
            "request: must have the column image, of photos' bytes, and may have recorded, got another form. Mend it.",
        )
    kinds = pyarrow.types
    if "recorded" in schema.names:
        kind = schema.field("recorded").type
        if not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_null(kind)):
            raise RequestRefused(400, "request: recorded must be numbers, got another type. Send what the books say.")
    _check_rows(about.num_rows, limits)
    groups = [about.row_group(group) for group in range(min(about.num_row_groups, limits.rows))]
    chunks = [group.column(column) for group in groups for column in range(group.num_columns)]
    if not {chunk.compression for chunk in chunks} <= _MILD_CODECS:
        raise RequestRefused(
            400, "request: parquet must be uncompressed or snappy, got another codec. Write it uncompressed."
        )
    if sum(chunk.total_uncompressed_size for chunk in chunks) > 2 * limits.body_bytes:
        raise RequestRefused(413, f"request: its photos must have at most {limits.body_mb} MB, got more. Send fewer.")


def _check_rows(rows: int, limits: RequestLimits) -> None:
    if rows > limits.rows:
        raise RequestRefused(
            413, f"request: must hold at most {limits.rows} rows, got more. Send them in several requests."
        )


def _pixels_of(row: int, photo: bytes) -> int:
    try:
        header = check_photo(photo, "image")
    except InvalidObject as error:
        raise RequestRefused(400, f"row {row}: image must be a whole JPEG or PNG file: {error.reason}.") from None
    return header.width_px * header.height_px


# The only errors of the model whose words are its own: a row's number, and no byte of the photo.
_OWN_WORDS = re.compile(r"row \d+: photo: its pixels must be whole")


class ValidatingApp:
    """An ASGI app: MLflow's, with requests checked before it and errors reworded after it.

    MLflow's own errors quote the request and hold stack traces and paths.
    """

    def __init__(
        self, app: Callable[..., Any], limits: RequestLimits, batches: Callable[[], Mapping[int, int]]
    ) -> None:
        self._app, self._limits, self._batches = app, limits, batches

    async def __call__(self, scope: dict, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Answers one request."""
        if scope["path"] == "/batches":
            await _send(send, 200, json.dumps(self._batches()).encode())
            return
        if scope["path"] != "/invocations":
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        content_type = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
        try:
            rows = await asyncio.to_thread(check_request, body, content_type, self._limits)
            status, answer = await self._ask(scope, receive, body)
            _check_answer(status, answer, rows)
        except RequestRefused as refused:
            status, answer = refused.status, refused.as_json()
        await _send(send, status, answer)

    async def _ask(self, scope: dict, receive: Callable[..., Any], body: bytes) -> tuple[int, bytes]:
        sent: list[dict] = []
        left = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> dict:
            return left.pop() if left else await receive()

        async def keep(message: dict) -> None:
            sent.append(message)

        await self._app(scope, replay, keep)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def _check_answer(status: int, answer: bytes, rows: int) -> None:
    if status == 200:
        try:
            if len(json.loads(answer)["predictions"]) == rows:
                return
        except (ValueError, KeyError, TypeError):
            pass
    elif status == 504:
        raise RequestRefused(504, "server: timed out; send fewer photos.")
    elif status == 400:
        said = _said(answer)
        own = _OWN_WORDS.match(said)
        if own:
            raise RequestRefused(400, f"{own[0]} Send the whole file.")
        if "unexpected error while evaluating the model" not in said:
            raise RequestRefused(400, f"request: must be a table of photos, got another form. {SEND}")
    raise RequestRefused(500, "server: counting must succeed, got an error. See its log.")


def _said(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


async def _read(receive: Callable[..., Any]) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _send(send: Callable[..., Any], status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
