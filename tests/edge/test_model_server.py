"""What the client makes of servers that do not answer as they should."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bincount.core.errors import ConfigError, DataError, StoreError
from bincount.edge.model_server import count_bins, invocations_url


@pytest.fixture
def answering():
    """Starts a server that gives one answer to everything; returns its address."""
    servers = []

    def start(status, body):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
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


def test_an_address_must_be_one():
    with pytest.raises(ConfigError, match="must be http://HOST:PORT, got 'file:///etc/passwd'"):
        invocations_url("file:///etc/passwd")
