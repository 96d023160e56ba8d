"""Whatever is sent, the server says what it wants, quotes nothing and lives on."""

import base64
import contextlib
import http.client
import io
import json
import os
import random
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from bincount.client import Client, about_server
from bincount.errors import ConfigError, DataError
from tests.serving.versions import PHOTOS, get, name, register_version, serving, wait_until, workers_of
from tests.stores import make_settings

pytestmark = pytest.mark.filterwarnings("ignore:.*Add type hints to the `predict` method:UserWarning")

TOKEN = "a-long-secret"
MARK = "Zq7XsecretX"
JSON, PARQUET = "application/json", "application/vnd.apache.parquet"
LEAKS = [MARK.encode(), b"Traceback", b'File "', b".py", b"site-packages", b"/tmp/", b"/home/", b"stack_trace"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with small limits and a token, serving a tiny model; its address and process."""
    settings = make_settings(tmp_path_factory.mktemp("hostile"))
    version, _ = register_version(settings, seed=1)
    name(settings, version)
    flags = ["--max-body-mb=1", "--max-rows=8", "--max-time-s=20"]
    with serving(settings, *flags, BINCOUNT_SERVING_TOKEN=TOKEN) as (url, process):
        wait_until(lambda: get(url, "/ready")[0] == 200)
        yield url, process


def send(connection, body, *, method="POST", path="/invocations", headers=None):
    """Status, headers and body of an answer on a kept connection, opened anew where it was closed."""
    headers = {"Content-Type": JSON, "Authorization": f"Bearer {TOKEN}"} | (headers or {})
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    except (http.client.HTTPException, OSError):
        connection.close()
        raise


def open_to(url):
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)


@pytest.mark.parametrize("path", ["/invocations", "/model", "/metrics", "/version"])
def test_only_who_knows_the_token_may_ask(server, path):
    connection = open_to(server[0])
    method = "POST" if path == "/invocations" else "GET"
    for wrong in ["", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \xff"]:
        status, _, said = send(connection, b"", method=method, path=path, headers={"Authorization": wrong})
        assert status == 401, wrong
        assert TOKEN.encode() not in said
    assert send(connection, b"", method=method, path=path)[0] != 401
    connection.close()


def test_health_needs_no_token(server):
    assert get(server[0], "/ping")[0] == get(server[0], "/ready")[0] == 200


def test_the_client_sends_the_token_and_passes_refusals_on(server):
    with Client(server[0], token=TOKEN) as client:
        assert len(client.count(PHOTOS)) == 5
        assert len(client.count(PHOTOS[:1])) == 1
        for photos in ([PHOTOS[0], b"hello"], [*PHOTOS, b"hello"]):
            with pytest.raises(DataError, match=f"row {len(photos) - 1}: image must be a whole JPEG or PNG"):
                client.count(photos)
    with Client(server[0]) as client, pytest.raises(ConfigError, match="must accept the token, got HTTP 401"):
        client.count(PHOTOS[:1])


def test_a_photo_that_is_cut_short_is_named(server):
    damaged = PHOTOS[0][:-200]
    with Client(server[0], token=TOKEN) as client:
        for photos in ([PHOTOS[0], damaged], [*PHOTOS, damaged]):
            with pytest.raises(
                DataError, match=f"row {len(photos) - 1}: image must be a whole JPEG or PNG file: photo is cut short"
            ):
                client.count(photos)


def test_a_wrong_token_is_a_wrong_setting_and_is_not_waited_for(server):
    for token in (None, "another"):
        with pytest.raises(ConfigError, match="must accept the token, got HTTP 401"):
            about_server(server[0], token=token)


def test_a_body_that_is_too_large_gets_its_answer_from_a_client_that_sends_first(server):
    request = urllib.request.Request(  # noqa: S310
        f"{server[0]}/invocations",
        data=b"x" * 30_000_000,
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)  # noqa: S310
    assert refused.value.code == 413
    assert "its body must have at most" in json.load(refused.value)["message"]


def test_damaged_pixels_behind_a_whole_header_are_named(server):
    damaged = PHOTOS[0][:-60] + b"\xff\xd9"
    with Client(server[0], token=TOKEN) as client:
        for photos in ([PHOTOS[0], damaged], [*PHOTOS, damaged]):
            with pytest.raises(DataError, match=f"row {len(photos) - 1}: photo: its pixels must be whole"):
                client.count(photos)


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/invocations", {}, b"", 405),
        ("POST", "/ping", {}, b"", 405),
        ("GET", f"/{MARK}", {}, b"", 404),
        ("GET", "/docs", {}, b"", 404),
        ("GET", "/batches", {}, b"", 404),
        ("POST", "/invocations", {}, b"x" * 1_000_001, 413),
        ("POST", "/invocations", {"Content-Length": "99999999999"}, None, 413),
        ("POST", "/invocations", {"Content-Encoding": "gzip"}, b"x", 415),
        ("POST", "/invocations", {"Content-Type": MARK}, b"x", 415),
    ],
)
def test_other_requests_are_refused(server, method, path, headers, body, status):
    connection = open_to(server[0])
    got, _, said = send(connection, body, method=method, path=path, headers=headers)
    connection.close()
    assert got == status
    assert set(json.loads(said)) == {"error_code", "message"}
    assert not [leak for leak in LEAKS if leak in said]


def test_a_body_without_a_length_is_counted_as_it_comes(server):
    connection = open_to(server[0])
    chunks = (b"x" * 65536 for _ in range(40))
    with contextlib.suppress(ConnectionError):  # the answer came before all was sent, and the connection was closed
        assert send(connection, chunks)[0] == 413
    connection.close()
    assert get(server[0], "/ping")[0] == 200


@pytest.mark.slow
def test_too_many_and_too_slow_requests_get_an_explained_refusal(tmp_path):
    settings = make_settings(tmp_path)
    version, _ = register_version(settings, seed=1)
    name(settings, version)
    with serving(settings, "--max-waiting=2", "--max-time-s=4") as (url, process):
        wait_until(lambda: get(url, "/ready")[0] == 200)
        (worker,) = workers_of(process)
        got = []

        def ask(photos):
            connection = open_to(url)
            body = {"dataframe_records": [{"image": base64.b64encode(each).decode()} for each in photos]}
            got.append(send(connection, json.dumps(body)))
            connection.close()

        threads = [threading.Thread(target=ask, args=(PHOTOS[:1],)) for _ in range(6)]
        os.kill(worker, signal.SIGSTOP)
        for thread in threads:
            thread.start()
        wait_until(lambda: len(got) == 4)
        os.kill(worker, signal.SIGCONT)
        for thread in threads:
            thread.join()
        assert sorted(status for status, *_ in got) == [200] * 2 + [429] * 4
        assert all(headers["Retry-After"] == "1" for status, headers, _ in got if status == 429)
        got.clear()
        os.kill(worker, signal.SIGSTOP)
        ask(PHOTOS)
        os.kill(worker, signal.SIGCONT)
        assert got[0][0] == 504
        assert b"timed out after 4 s" in got[0][2]
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as slow:
            slow.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
            began = time.monotonic()
            assert b"408" in slow.recv(1000)
            assert 3 < time.monotonic() - began < 10


def hostile(rng):
    """A request made to hurt: headers and body."""
    text = lambda: rng.choice(["", MARK, MARK * 50, "\x00", "é" * 9, "../" * 9 + MARK, "{{7*7}}", "%s%n"])  # noqa: E731
    b64 = lambda data: base64.b64encode(data).decode()  # noqa: E731

    hurt = rng.random()  # so that some requests are wholly bad, and some reach the model

    def photo():
        data = bytearray(rng.choice(PHOTOS))
        match rng.randrange(5) if rng.random() < hurt else None:
            case 0:
                data = data[: rng.randrange(len(data))]
            case 1:
                for _ in range(rng.randrange(1, 20)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
            case 2:
                at = rng.randrange(len(data))
                data[at:at] = rng.randbytes(rng.randrange(100))
            case 3:
                data = b"\x89PNG\r\n\x1a\n" + rng.randbytes(rng.randrange(60))
            case 4:
                data = rng.choice([b"\xff\xd8" + rng.randbytes(rng.randrange(60)), MARK.encode()])
        return bytes(data)

    def value(depth=0):
        match rng.randrange(9 if depth < 3 else 6):
            case 0:
                return text()
            case 1:
                return rng.choice([None, True, -1, 0, 1e308, 10**30, float("nan")])
            case 2 | 3 | 4:
                return b64(photo())
            case 5:
                return rng.randbytes(9).decode("latin-1")
            case 6 | 7:
                return [value(depth + 1) for _ in range(rng.randrange(4))]
            case _:
                return {rng.choice(["image", "data", "columns", text()]): value(depth + 1) for _ in range(2)}

    def request():
        rows = [[b64(photo())] for _ in range(rng.randrange(10))]
        match rng.randrange(6):
            case 0:
                return {"dataframe_split": {"columns": ["image"], "data": rows}}
            case 1:
                return {"dataframe_records": [{"image": row[0]} for row in rows] + [value()] * rng.randrange(2)}
            case 2:
                return {"dataframe_split": {"columns": [value(), "image"][rng.randrange(2) :], "data": value()}}
            case 3:
                keys = ["inputs", "instances", "dataframe_split", "dataframe_records", "params", "messages", text()]
                return {key: value() for key in rng.sample(keys, rng.randrange(1, 4))}
            case 4:
                return {"dataframe_split": {"columns": ["image"], "data": [*rows, value()], "index": value()}}
            case _:
                return value()

    def table():
        column = [photo() for _ in range(rng.randrange(10))]
        what = rng.choice([column, [*column, None], [MARK], [1], [[b"x"]], [{"a": MARK}]])
        names = rng.choice([["image"], ["image"], ["image", f"{MARK}!"], [f"{MARK}!"]])  # plain names may be repeated
        buffer = io.BytesIO()
        made = pyarrow.table(dict.fromkeys(names, what))
        if rng.random() < 0.2:
            made = made.replace_schema_metadata({"pandas": rng.choice([MARK, "{}", '{"index_columns": [{"a": 1}]}'])})
        codec = rng.choice(["none", "snappy", "zstd", "gzip"])
        parquet.write_table(made, buffer, compression=codec, row_group_size=rng.choice([1, 2, 100]))
        data = bytearray(buffer.getvalue())
        if rng.random() < 0.5:
            for _ in range(rng.randrange(1, 9)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data)

    headers = {}
    match rng.randrange(10):
        case 0:
            body = rng.randbytes(rng.randrange(3000))
        case 1:
            body = rng.choice([b"[" * 50_000, b'{"a":' * 20_000, b"9" * 9000, b"", b"null", b'"' + MARK.encode()])
        case 2 | 3 | 4:
            body, headers["Content-Type"] = table(), PARQUET
        case _:
            body = json.dumps(request()).encode()
    if rng.random() < 0.1:
        headers["Content-Type"] = rng.choice(
            [JSON, PARQUET, "text/csv", "", MARK, f"{JSON};charset={MARK}", f"{JSON}; charset=utf-8", "a" * 5000]
        )
    if rng.random() < 0.02:
        headers["Content-Encoding"] = "gzip"
    return headers, body


def memory_mb(pids):
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_hostile_requests(server, capsys):
    url, process = server
    everyone = [process.pid, *workers_of(process)]
    assert len(everyone) == 2
    statuses, wrong, grown = {}, [], []

    def attack(seed, requests):
        rng, connection = random.Random(seed), open_to(url)
        for number in range(requests):
            headers, body = hostile(rng)
            try:
                status, _, said = send(connection, body, headers=headers)
            except (http.client.HTTPException, OSError) as error:
                wrong.append((seed, number, repr(error)))
                continue
            statuses[status] = statuses.get(status, 0) + 1
            ok = status < 500 or (status == 503 and b"Ask" in said) or (status == 504 and b"timed out" in said)
            if not ok or any(leak in said for leak in LEAKS):
                wrong.append((seed, number, status, said[:300]))
        connection.close()

    for tenth in range(10):
        threads = [threading.Thread(target=attack, args=(seed, 250)) for seed in range(4 * tenth, 4 * tenth + 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        grown.append(memory_mb(everyone))
    with capsys.disabled():
        print(f"\nanswers by status: {dict(sorted(statuses.items()))}; memory in MB: {np.round(grown).astype(int)}")
    assert not wrong, wrong[:5]
    assert sum(statuses.values()) == 10_000
    assert statuses[200] > 200
    assert statuses[400] > 3000
    assert workers_of(process) == everyone[1:]
    # The first tenths fill caches and arenas; a leak of a body per request would be 20 MB a tenth.
    assert grown[-1] < grown[3] * 1.05 + 20
    with Client(url, token=TOKEN) as client:
        assert len(client.count(PHOTOS)) == 5
