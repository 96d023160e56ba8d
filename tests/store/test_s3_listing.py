"""Listings of servers that are stricter, or know less, than AWS: every key once, or an error, but never for ever."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest

from bincount.errors import ConfigError, DataError
from bincount.settings import Settings
from bincount.store.open_store import open_store

pytestmark = pytest.mark.usefixtures("no_credentials")

KEYS = sorted(f"bin-images/{name}.jpg" for name in [*(f"{n:05d}" for n in range(1, 1200, 3)), *range(10000, 11900, 2)])


class Gateway(BaseHTTPRequestHandler):
    """An S3 server that only lists; its class attributes say how."""

    page, base = 300, ""
    is_strict = ignores_start = repeats = sends_empty = False
    extra = ()
    status, denied, refuses = 200, b"", ()

    def do_GET(self):
        kind = "probe" if "max-keys=1&" in f"{self.path}&" else "listing" if "list-type" in self.path else "object"
        if kind in self.refuses:
            self.send_response(self.status)
            self.send_header("Content-Length", str(len(self.denied)))
            self.end_headers()
            self.wfile.write(self.denied)
            return
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        prefix, start = asked.get("prefix", ""), asked.get("start-after", "")
        keys = [self.base + key for key in sorted((*KEYS, *self.extra)) if (self.base + key).startswith(prefix)]
        if self.is_strict and start and not start.startswith(prefix):
            keys = []
        if not self.ignores_start:
            keys = [key for key in keys if key > start]
        if "continuation-token" in asked and not self.repeats:
            keys = [key for key in keys if key > asked["continuation-token"]]
        size = min(int(asked.get("max-keys", 1000)), self.page)
        page, rest = keys[:size], keys[size:]
        if self.sends_empty and "continuation-token" not in asked:
            page, rest = [], keys
        more = f"<NextContinuationToken>{escape(page[-1] if page else prefix)}</NextContinuationToken>" if rest else ""
        entry = "<Contents><Key>{}</Key><Size>9</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        listed = "".join(entry.format(escape(key)) for key in page)
        text = f"<ListBucketResult><Name>b</Name><IsTruncated>{str(bool(rest)).lower()}</IsTruncated>{more}{listed}"
        body = f"{text}<KeyCount>{len(page)}</KeyCount></ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def opened(tmp_path, source="s3://bin-stock", **behaviour):
    """A store on such a gateway."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Gateway,), behaviour))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield open_store(source, Settings(tmp_path, "", tmp_path, buckets={"bin-stock": endpoint}))
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def listed(tmp_path, source="s3://bin-stock", **behaviour):
    """The keys that a store lists on such a gateway."""
    with opened(tmp_path, source, **behaviour) as store:
        yield (entry.key for page in store.pages("bin-images/") for entry in page)


@pytest.mark.parametrize(
    "behaviour",
    [
        {},
        {"is_strict": True},
        {"is_strict": True, "page": 7},
        {"ignores_start": True},
        {"ignores_start": True, "page": 1000},
    ],
    ids=str,
)
def test_every_key_is_listed_once(tmp_path, behaviour):
    with listed(tmp_path, **behaviour) as keys:
        assert sorted(keys) == KEYS


@pytest.mark.parametrize("behaviour", [{"page": 300}, {"page": 7, "ignores_start": True}], ids=str)
def test_a_listing_that_repeats_its_page_is_an_error(tmp_path, behaviour):
    with (
        listed(tmp_path, repeats=True, **behaviour) as keys,
        pytest.raises(DataError, match="a listing must progress, got the page up to"),
    ):
        list(keys)


@pytest.mark.parametrize("prefix", ["2026/november", "a/b/c/"])
def test_below_a_prefix_keys_are_those_of_the_layout(tmp_path, prefix):
    with listed(tmp_path, f"s3://bin-stock/{prefix}", base=f"{prefix.strip('/')}/", is_strict=True) as keys:
        assert sorted(keys) == KEYS


def test_an_empty_page_with_a_token_is_followed(tmp_path):
    odd = "bin-images/9//b.jpg"  # obstore refuses its page, so boto3 lists it
    with listed(tmp_path, sends_empty=True, extra=(odd,)) as keys:
        assert sorted(keys) == sorted((*KEYS, odd))


@pytest.mark.parametrize(
    ("status", "code"), [(401, ""), (403, "AccessDenied"), (403, "RequestTimeTooSkewed"), (407, "")]
)
@pytest.mark.parametrize("refuses", [("probe", "listing", "object"), ("listing",), ("object",)], ids="-".join)
def test_a_refusal_is_named_at_once(tmp_path, status, code, refuses):
    """Not retried for two minutes; status and code are said, whichever request is refused."""
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else b""
    found = rf"got access denied \({f'{status} {code}'.strip()}\)"
    with opened(tmp_path, status=status, denied=body, refuses=refuses) as store:
        if "listing" in refuses:
            with pytest.raises(ConfigError, match=found):
                list(store.pages("bin-images/"))
        if "object" in refuses:
            with pytest.raises(ConfigError, match=found):
                list(store.fetch(["bin-images/1.jpg"], workers=1))
