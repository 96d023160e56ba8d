"""What the client makes of servers that do not answer as they should."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bincount.client import Client, count_bins, invocations_url, request_of
from bincount.dataset.contents import products_of
from bincount.errors import ConfigError, DataError, StoreError
from bincount.serving.admission import RequestLimits
from bincount.serving.request_parser import parse_request
from tests.tiny import photo


@pytest.fixture
def answering():
    """Starts a server that gives one answer to everything; returns its address."""
    servers = []

    def start(status, body, *, first=(), headers=(), asked=None):
        """`first` statuses come before; what is asked is appended to `asked`."""
        statuses = [*first]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                if asked is not None:
                    asked.append((self.client_address, self.headers, sent))
                now = statuses.pop(0) if statuses else status
                if now == 0:  # goes away without a word
                    self.close_connection = True
                    return
                self.send_response(now)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_predictions_are_given_back(answering):
    url = answering(200, json.dumps({"predictions": [{"count": 3}]}).encode())
    assert count_bins(url, [b"photo"]) == [{"count": 3}]
    assert count_bins(url + "/invocations", [b"photo"]) == [{"count": 3}]


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, b'{"message": "row 0: no photo"}', DataError, "row 0: no photo"),
        (500, b"boom", StoreError, "must answer with predictions, got HTTP 500: boom"),
        (503, b"", StoreError, "HTTP 503"),
        (200, b"<html>", StoreError, "must answer with predictions, got "),
        (200, b"[]", StoreError, "must answer with predictions"),
        (200, b"{}", StoreError, "must answer with predictions, got 'predictions'"),
        (200, b'{"predictions": []}', StoreError, "got 0 predictions for 1 photos"),
    ],
)
def test_other_answers_are_errors(answering, status, body, kind, words):
    with pytest.raises(kind, match=words):
        count_bins(answering(status, body), [b"photo"])


def test_asks_again_where_that_is_safe_and_promised(answering):
    asked = []
    right = json.dumps({"predictions": [{"count": 3}]}).encode()
    url = answering(200, right, first=[503, 0, 429], headers=[("Retry-After", "0")], asked=asked)
    with Client(url) as client:
        assert client.count([b"photo"]) == [{"count": 3}]
    assert len(asked) == 4


@pytest.mark.parametrize(("status", "error"), [(500, StoreError), (504, StoreError), (401, ConfigError)])
def test_does_not_ask_again_where_it_cannot_help(answering, status, error):
    asked = []
    with Client(answering(status, b"no", asked=asked)) as client, pytest.raises(error) as refused:
        client.count([b"photo"])
    assert f"HTTP {status}" in str(refused.value)
    assert len(asked) == 1


def test_gives_up_in_time(answering):
    asked = []
    url = answering(503, b"later", headers=[("Retry-After", "60")], asked=asked)
    with Client(url, timeout_s=1) as client, pytest.raises(StoreError, match="HTTP 503: later"):
        client.count([b"photo"])
    assert len(asked) == 1  # the minute it names is longer than we wait


def test_one_photo_is_json_and_many_are_parquet_on_one_connection(answering):
    import pandas as pd

    asked = []
    right = json.dumps({"predictions": [{"count": 3}]}).encode()
    with Client(answering(200, right, asked=asked), token="a b") as client:
        client.count([b"photo"])
        client.count([b"photo"])
    assert asked[0][0] == asked[1][0]
    assert asked[0][1]["Authorization"] == "Bearer a b"
    assert json.loads(asked[0][2])["dataframe_split"]["columns"] == ["image"]
    photos = [bytes([row]) * 10 for row in range(64)]
    with Client(answering(200, json.dumps({"predictions": [{}] * 64}).encode(), asked=asked)) as client:
        assert len(client.count(photos)) == 64
    assert asked[-1][1]["Content-Type"] == "application/vnd.apache.parquet"
    assert pd.read_parquet(io.BytesIO(asked[-1][2]))["image"].tolist() == photos


def test_an_address_must_be_one():
    with pytest.raises(ConfigError, match="must be http://HOST:PORT, got 'file:///etc/passwd'"):
        invocations_url("file:///etc/passwd")


@pytest.mark.parametrize("photos", [1, 4])
def test_records_and_what_is_known_of_them_arrive(photos):
    image, cubes = photo(), [{"quantity": 2, "length": 3, "width": 2.5, "height": 1, "weight": 0.5}]
    rest = [None] * (photos - 1)
    body, kind = request_of([image] * photos, [2, *rest], [(image, 3), *rest], [cubes, *rest])
    arrived = parse_request(body, kind, RequestLimits())
    assert arrived == ([image] * photos, [2, *rest], [(image, 3), *rest], [products_of(cubes), *rest])
