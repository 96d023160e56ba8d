"""Both clients of a bucket reach it in the same way, whatever boto3 was told, and wherever it was told."""

import contextlib
import datetime
import http.client
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import botocore.exceptions
import botocore.session
import obstore
import obstore.exceptions
import pytest
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bincount.errors import ConfigError
from bincount.settings import Settings
from bincount.store.open_store import open_store
from bincount.store.s3_connection import bulk_client, check_bucket_name

ROOT = Path(__file__).parents[2]
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """No setting of AWS from this machine; a folder for a configuration."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


@pytest.mark.parametrize(
    ("bucket", "endpoint", "region", "env", "config"),
    [
        ("bins", None, "us-east-1", {}, ""),
        ("bins", None, "cn-north-1", {}, ""),
        ("bins", None, "us-gov-west-1", {"AWS_USE_FIPS_ENDPOINT": "true"}, ""),
        ("bins", None, "eu-west-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, ""),
        ("bins.with.dots", None, "eu-west-1", {}, ""),
        ("bins", None, "eu-west-1", {}, "s3 =\n    addressing_style = path\n"),
        ("bins", "http://127.0.0.1:9000", "us-east-1", {}, ""),
        ("bins", "http://127.0.0.1:9000", "us-east-1", {}, "s3 =\n    addressing_style = virtual\n"),
        ("bins", "https://bucket.vpce-1a2b-3c4d.s3.us-east-1.vpce.amazonaws.com", "us-east-1", {}, ""),
        ("bins", "https://gateway.example/s3", "us-east-1", {}, ""),
        ("bins", None, "us-east-1", {"AWS_ENDPOINT_URL_S3": "https://s3.warehouse.example:9443"}, ""),
        (
            "bins",
            None,
            "us-east-1",
            {"AWS_PROFILE": "floor"},
            "[profile floor]\nendpoint_url = https://floor.example\n",
        ),
    ],
)
def test_one_door(clean, monkeypatch, bucket, endpoint, region, env, config):
    for name, value in (KEYS | env).items():
        monkeypatch.setenv(name, value)
    (clean / "config").write_text(config if config.startswith("[") else f"[default]\n{config}")
    core = botocore.session.Session()
    session = boto3.session.Session(botocore_session=core)
    client = session.client("s3", region_name=region, endpoint_url=endpoint, config=Config(signature_version="s3v4"))
    bulk = bulk_client(client, core, bucket, is_anonymous=False)
    theirs = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a/1.jpg"}))
    ours = urlsplit(obstore.sign(bulk, "GET", "a/1.jpg", datetime.timedelta(minutes=1)))
    assert (ours.scheme, ours.netloc, ours.path) == (theirs.scheme, theirs.netloc, theirs.path)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("ab", "3 to 63 characters"),
        ("Bins", "only lower-case letters"),
        ("bin_images", "only lower-case letters"),
        ("-bins", "a letter or digit at its start and end"),
        ("bins..stock", "no two dots in a row"),
        ("192.168.0.1", "another form than an IP address"),
        ("xn--bins", "no prefix or suffix that S3 reserves"),
        ("bins-s3alias", "no prefix or suffix that S3 reserves"),
    ],
)
def test_the_rule_that_a_bucket_s_name_breaks_is_said(name, rule):
    with pytest.raises(ConfigError, match=f"a bucket's name must have {rule}"):
        check_bucket_name(name)


def _signed(name, issuer, key, ca=None):
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
    if ca is not None:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca or key, hashes.SHA256())


@pytest.fixture
def private_tls(tmp_path, moto_endpoint):
    """An S3 server behind a certificate of a private authority: its address, and the authority's file."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name, name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("private CA", "localhost"))
    pem = serialization.Encoding.PEM
    (tmp_path / "ca.pem").write_bytes(_signed(ca_name, ca_name, ca_key).public_bytes(pem))
    (tmp_path / "server.pem").write_bytes(
        _signed(name, ca_name, key, ca_key).public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    listener = socket.create_server(("127.0.0.1", 0))
    behind = urlsplit(moto_endpoint)

    def pass_on(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            for each in (source, target):
                each.close()

    def serve():
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                secure = context.wrap_socket(plain, server_side=True)
            except OSError:  # the client does not trust the certificate
                plain.close()
                continue
            inner = socket.create_connection((behind.hostname, behind.port))
            for pair in ((secure, inner), (inner, secure)):
                threading.Thread(target=pass_on, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"https://localhost:{listener.getsockname()[1]}", tmp_path / "ca.pem"
    listener.close()


@pytest.mark.parametrize("where", ["environment", "profile"])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_private_authority_holds_for_bulk_reading_too(
    clean, private_tls, new_bucket, moto_endpoint, monkeypatch, where
):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    address, authority = private_tls
    client, bucket = new_bucket(moto_endpoint)
    client.put_object(Bucket=bucket, Key="metadata/00001.json", Body=b"{}")
    store = open_store(f"s3://{bucket}", Settings(clean, "", clean, buckets={bucket: address}))
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"its certificate must be trusted, got .* AWS_CA_BUNDLE"):
        list(store.fetch(["metadata/00001.json"], workers=1))
    assert time.monotonic() - began < 10
    if where == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    else:
        (clean / "config").write_text(f"[default]\nca_bundle = {authority}\n")
    store = open_store(f"s3://{bucket}", Settings(clean, "", clean, buckets={bucket: address}))
    assert [one.data for one in store.fetch(["metadata/00001.json"], workers=1)] == [b"{}"]
    assert [entry.key for page in store.pages("metadata/") for entry in page] == ["metadata/00001.json"]


class _Proxy(BaseHTTPRequestHandler):
    """A forward proxy that notes who asked it."""

    asked = frozenset()

    def do_GET(self):
        type(self).asked |= {(self.command, self.headers["User-Agent"].split("/")[0])}
        url = urlsplit(self.path)
        with contextlib.closing(http.client.HTTPConnection(url.hostname, url.port)) as server:
            server.request("GET", f"{url.path}?{url.query}", headers={"Host": url.netloc})
            answer = server.getresponse()
            body = answer.read()
        self.send_response(answer.status)
        for name in ("Content-Type", "ETag", "Last-Modified"):
            if answer.headers[name]:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self):
        type(self).asked |= {("CONNECT", self.path)}
        self.send_error(502)

    def log_message(self, *_):
        pass


@pytest.fixture
def proxy():
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (_Proxy,), {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def bins():
    from tests.bucket_server import run_server

    with run_server(bins=3, photo_bytes=500) as server:
        yield server


@pytest.mark.parametrize(
    ("host", "env", "is_used"),
    [
        ("127.0.0.1", {"HTTP_PROXY": "http://{proxy}"}, True),
        ("localhost", {"http_proxy": "{proxy}"}, True),
        ("127.0.0.1", {"HTTP_PROXY": "http://ada:p%40ss@{proxy}", "NO_PROXY": "s3.example,10.0.0.1"}, True),
        ("127.0.0.1", {"HTTP_PROXY": "http://{proxy}", "NO_PROXY": "127.0.0.1:1"}, True),
        ("127.0.0.1", {"HTTP_PROXY": "http://{proxy}", "NO_PROXY": "127.0.0.1"}, False),
        ("127.0.0.1", {"HTTP_PROXY": "http://{proxy}", "no_proxy": "s3.example, 127.0.0.1:{port}"}, False),
        ("127.0.0.1", {"HTTP_PROXY": "http://{proxy}", "NO_PROXY": "*"}, False),
        ("localhost", {"HTTP_PROXY": "http://{proxy}", "NO_PROXY": ".localhost"}, False),
        ("127.0.0.1", {"HTTPS_PROXY": "http://{proxy}"}, False),
        ("127.0.0.1", {"ALL_PROXY": "http://{proxy}"}, False),
    ],
)
def test_both_clients_take_the_proxy_or_neither_does(clean, monkeypatch, bins, proxy, host, env, is_used):
    for name, value in env.items():
        monkeypatch.setenv(name, value.format(proxy=f"127.0.0.1:{proxy.server_port}", port=bins.port))
    store = open_store("s3://bins", Settings(clean, "", clean, buckets={"bins": f"http://{host}:{bins.port}"}))
    assert sum(map(len, store.pages("bin-images/"))) == 3
    assert all(one.data for one in store.fetch(["bin-images/00001.jpg"], workers=1))
    asked = proxy.RequestHandlerClass.asked
    assert asked == ({("GET", "Boto3"), ("GET", "object_store")} if is_used else set())


def test_both_clients_ask_the_proxy_for_a_tunnel(clean, monkeypatch, proxy):
    for name, value in (KEYS | {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.server_port}"}).items():
        monkeypatch.setenv(name, value)
    core = botocore.session.Session()
    client = boto3.session.Session(botocore_session=core).client(
        "s3",
        region_name="us-east-1",
        endpoint_url="https://s3.example:9443",
        config=Config(retries={"total_max_attempts": 1}),
    )
    bulk = bulk_client(client, core, "bins", is_anonymous=False)
    for ask in (lambda: client.list_objects_v2(Bucket="bins"), lambda: obstore.get(bulk, "a/1.jpg")):
        proxy.RequestHandlerClass.asked = frozenset()
        with pytest.raises((botocore.exceptions.ProxyConnectionError, obstore.exceptions.BaseError)):
            ask()
        assert proxy.RequestHandlerClass.asked == {("CONNECT", "s3.example:9443")}


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("behaviour", ["silent", "busy"])
def test_a_verb_ends_soon_whatever_a_bucket_does(tmp_path, end, behaviour):
    """A server that answers once and then never again, or 503 for ever."""
    from tests.bucket_server import run_server

    with run_server(bins=3000, photo_bytes=500) as server:
        server.set(**({"stall": 1} if behaviour == "silent" else {"busy": 1}), latency_ms=5)
        env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "bincount", "plan", "--source=s3://bins"],
            env=env
            | {
                "BINCOUNT_WORKSPACE": str(tmp_path),
                "BINCOUNT_BUCKETS": f'{{"bins": "{server.endpoint}"}}',
                "AWS_EC2_METADATA_DISABLED": "true",
                "PYTHONPATH": str(ROOT),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not {"stalls", "busy"} & server.stats().keys():
            assert process.poll() is None
            time.sleep(0.1)
        began = time.monotonic()
        process.send_signal(end)
        process.wait(20)
        assert time.monotonic() - began < 2
        assert process.returncode == 128 + end
