"""Which requests are read, which are refused, and in which words."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from bincount.serving.admission import RequestLimits, RequestRefused
from bincount.serving.request_parser import JSON, PARQUET, parse_request
from tests.tiny import photo

LIMITS = RequestLimits(body_mb=1, rows=4, megapixels=1)
ONE = photo()
SECRET = b"GET /etc/passwd SECRET"


def split(*photos, **more):
    return {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(p).decode()] for p in photos], **more}}


def records(*recorded):
    one = base64.b64encode(ONE).decode()
    return {"dataframe_records": [{"image": one, "recorded": value} for value in recorded]}


def followed(**changed):
    one = base64.b64encode(ONE).decode()
    return {"dataframe_records": [{"image": one, "before": one, "counted_before": 3} | changed]}


def table(columns=None, **how):
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns or {"image": [ONE, ONE]}), buffer, **how)
    return buffer.getvalue()


def png(width, height):
    """A file that is a whole PNG to whoever does not decode its pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


both = {"columns": ["recorded", "image"], "data": [[n, base64.b64encode(ONE).decode()] for n in (7, None)]}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps(split(ONE, ONE)), JSON),
        (json.dumps(split(ONE, ONE)), "Application/JSON; charset=UTF-8"),
        (json.dumps({"dataframe_records": [{"image": base64.encodebytes(ONE).decode()}] * 2}), JSON),
        (json.dumps(split(ONE, ONE, index=[0, 1])), JSON),
        (json.dumps(split(ONE, ONE) | {"params": {}}), JSON),
        (
            json.dumps({"dataframe_records": [one | {"id": "00017"} for one in records(1, 2)["dataframe_records"]]}),
            JSON,
        ),
        (
            json.dumps(
                {"dataframe_split": {"columns": ["id", "image"], "data": [[7, base64.b64encode(ONE).decode()]] * 2}}
            ),
            JSON,
        ),
        (
            json.dumps(
                {
                    "dataframe_split": {
                        "columns": [[], {}, "image"],
                        "data": [[1, 2, base64.b64encode(ONE).decode()]] * 2,
                    }
                }
            ),
            JSON,
        ),
        (json.dumps(records(3, None)), JSON),
        (json.dumps(records(0, 3.0)), JSON),
        (json.dumps({"dataframe_split": split(ONE)["dataframe_split"] | both}), JSON),
        (table({"image": [ONE, ONE], "recorded": [3, None]}), PARQUET),
        (table({"recorded": [0.0, float("nan")], "image": [ONE, ONE]}), PARQUET),
        (table({"image": [ONE, ONE], "recorded": pyarrow.nulls(2)}), PARQUET),
        (table(), PARQUET),
        (table({"id": ["7", "8"], "image": [ONE, ONE], "__index_level_0__": [4, 5]}), PARQUET),
        (table(compression="none"), PARQUET),
        (table({"image": pyarrow.array([ONE, ONE], pyarrow.large_binary())}), PARQUET),
    ],
)
def test_photos_pass(body, kind):
    photos, recorded, before, contents = parse_request(body if isinstance(body, bytes) else body.encode(), kind, LIMITS)
    assert photos == [ONE, ONE]
    assert len(recorded) == 2
    assert before == contents == [None, None]


@pytest.mark.parametrize("as_table", [False, True])
def test_earlier_photos_are_read_with_their_counts(as_table):
    texts = [base64.b64encode(ONE).decode(), None]
    columns = ["image", "before", "counted_before"]
    rows = {"columns": columns, "data": [[texts[0], text, count] for text, count in zip(texts, [4, None], strict=True)]}
    body, kind = json.dumps({"dataframe_split": rows}).encode(), JSON
    if as_table:
        body, kind = table({"image": [ONE, ONE], "before": [ONE, None], "counted_before": [4, None]}), PARQUET
    assert parse_request(body, kind, LIMITS).before == [(ONE, 4), None]


@pytest.mark.parametrize("number", [0, -2, 5001.0, 10**400, float("nan"), float("inf")])
def test_a_number_that_is_no_size_or_weight_is_set_aside_with_its_reason(number):
    sent = [
        {"quantity": 1, "length": 4, "width": number, "height": 2, "weight": 1},
        {"quantity": 1, "length": 4, "width": 3, "height": 2, "weight": number},
    ]
    body = json.dumps(followed(contents=sent)).encode()
    ((first, second),) = parse_request(body, JSON, LIMITS).contents
    assert (first.sides_in, first.weight_lb, first.weight_problem) == (None, 1, "")
    assert first.size_problem.startswith("width must be above 0 and at most 500 in, got ")
    assert (second.sides_in, second.weight_lb, second.size_problem) == ((4, 3, 2), None, "")
    assert second.weight_problem.startswith("weight must be above 0 and at most 5000 lb, got ")


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (SECRET, JSON, 400, "must be JSON"),
        (b"[" * 100_000, JSON, 400, "must be JSON"),
        (b'{"inputs": ' + b"9" * 5000 + b"}", JSON, 400, "must be JSON"),
        (b"\xff\xfe", JSON, 400, "must be JSON"),
        ({"inputs": {"image": ["SECRET"]}}, JSON, 400, "must be dataframe_split or dataframe_records"),
        ({"instances": ["SECRET"]}, JSON, 400, "must be dataframe_split or dataframe_records"),
        ({"messages": "SECRET"}, JSON, 400, "must be dataframe_split or dataframe_records"),
        ({"dataframe_split": {"columns": ["photo", "SECRET!"], "data": [["x", 1]]}}, JSON, 400, "once, got photo"),
        ({"dataframe_split": {"columns": ["image", "image"], "data": []}}, JSON, 400, "once, got image, image"),
        (split(ONE, orient=["SECRET"]), JSON, 400, "must be dataframe_split or dataframe_records"),
        (split(), JSON, 400, "at least one row, got none"),
        (split(ONE, SECRET), JSON, 400, "row 1: image must be a whole JPEG or PNG file: photo is no JPEG or PNG"),
        ({"dataframe_records": [{"image": "SECRET!"}]}, JSON, 400, "row 0: image must be a photo in base64"),
        ({"dataframe_records": [{"image": "\ud800"}]}, JSON, 400, "row 0: image must be a photo in base64"),
        ({"dataframe_records": [{"image": None}]}, JSON, 400, "row 0: image must be a photo in base64"),
        ({"dataframe_records": [{"image": "", "SECRET": 1}]}, JSON, 400, "row 0: "),
        (records(2, 2.5), JSON, 400, "row 1: recorded must be a whole number from 0 to 100000 or null, got 2.5"),
        (records(-1), JSON, 400, "row 0: recorded must be a whole number"),
        (records("SECRET"), JSON, 400, "row 0: recorded must be a whole number .* got str"),
        (records(True), JSON, 400, "row 0: recorded must be a whole number .* got bool"),
        (table({"image": [ONE, ONE], "recorded": [1, -4]}), PARQUET, 400, "row 1: recorded must be a whole number"),
        (table({"image": [ONE], "recorded": ["SECRET"]}), PARQUET, 400, "recorded must be numbers, got another type"),
        (followed(before=None), JSON, 400, "row 0: counted_before must come with before, got it alone"),
        (followed(counted_before=None), JSON, 400, "row 0: before must come with counted_before, got it alone"),
        (followed(counted_before="SECRET"), JSON, 400, "row 0: counted_before must be a whole number"),
        (followed(before="!SECRET!"), JSON, 400, "row 0: before must be a photo in base64|before must be a whole"),
        (followed(before="@@@"), JSON, 400, "row 0: before must be a whole JPEG or PNG file"),
        (followed(contents="SECRET"), JSON, 400, "row 0: contents must be a list of at most 1000 products"),
        (followed(contents=[{"quantity": 1}] * 1001), JSON, 400, "row 0: contents must be a list of at most 1000"),
        (followed(contents=[3]), JSON, 400, "row 0: contents: product 1 must be an object with quantity"),
        (
            followed(contents=[{"quantity": 1}, {"quantity": 1.5}]),
            JSON,
            400,
            "product 2: quantity must be a whole",
        ),
        (
            followed(contents=[{"quantity": 1, "height": "SECRET"}]),
            JSON,
            400,
            "1: height must be a number, got str",
        ),
        (followed(contents=[{"quantity": 10**400}]), JSON, 400, "product 1: quantity must be a whole .* got inf"),
        (followed(contents=[{"quantity": 1, "length": [2]}]), JSON, 400, "1: length must be a number, got list"),
        (table({"image": [ONE], "contents": [3]}), PARQUET, 400, "contents must be JSON text"),
        (table({"image": [ONE], "before": ["SECRET"]}), PARQUET, 400, "before must be of photos' bytes"),
        (split(*[ONE] * 5), JSON, 413, "at most 4 rows"),
        (
            split(png(30_000, 30_000)),
            JSON,
            400,
            "JPEG or PNG file: photo has too many pixels",
        ),
        (split(png(900, 900), png(900, 900)), JSON, 413, "at most 1 megapixels"),
        (split(ONE[:100]), JSON, 400, "row 0: image must be a whole JPEG or PNG file: photo is cut short"),
        (SECRET, PARQUET, 400, "must be a whole parquet file"),
        (table()[:-9], PARQUET, 400, "must be a whole parquet file"),
        (table({"photo": [ONE], "SECRET!": [1]}), PARQUET, 400, "must have the column image once, got photo"),
        (table({"image": ["SECRET"]}), PARQUET, 400, "image must be of photos' bytes, got another type"),
        (table({"image": pyarrow.array([ONE, None])}), PARQUET, 400, "row 1: image must be a photo's bytes, got none"),
        (table({"image": [ONE] * 5}), PARQUET, 413, "at most 4 rows"),
        (table(compression="zstd"), PARQUET, 400, "must be uncompressed or snappy"),
        (table({"image": [bytes(3_000_000)]}), PARQUET, 413, "at most 1 MB"),
        (b"", "text/csv", 415, "Content-Type: must be"),
        (b"", "", 415, "Content-Type: must be"),
        (b"{}", JSON + "; charset=SECRET", 415, "charset=utf-8"),
        (b"", "multipart/form-data; boundary=SECRET", 415, "Content-Type: must be"),
    ],
)
def test_anything_else_is_refused_without_quoting_it(body, kind, status, words):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RequestRefused, match=words) as refused:
        parse_request(body, kind, LIMITS)
    assert refused.value.status == status
    assert b"SECRET" not in refused.value.as_json()
    assert set(json.loads(refused.value.as_json())) == {"error_code", "message"}


def test_a_dictionary_that_unfolds_is_stopped_before_it_fills_memory():
    """One large value named often: small in the file, large in memory."""
    large = ONE + bytes(400_000)
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(4, np.int32)), pyarrow.array([large]))
    body = table({"image": column.cast(pyarrow.binary())}, compression="none", store_schema=False)
    assert len(body) < 1_000_000
    with pytest.raises(RequestRefused, match="at most 1 MB"):
        parse_request(body, PARQUET, LIMITS)
