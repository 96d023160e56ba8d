"""Errors and retries of a bucket that is absent, denied, slow or unreachable."""

import threading
import time

import pytest

from bincount.errors import ConfigError, StoreError
from bincount.settings import Settings
from bincount.store import s3
from bincount.store.open_store import open_store
from tests.bucket_server import run_server
from tests.processes import free_ports

pytestmark = pytest.mark.usefixtures("no_credentials")


@pytest.fixture(scope="module")
def server():
    with run_server(bins=2500, photo_bytes=2000) as running:
        yield running


@pytest.fixture
def bucket(server, tmp_path):
    """A store on a server that behaves well until it is told otherwise."""
    names = ("latency_ms", "busy", "short", "reset", "stall", "down", "denied", "html", "cut_bin")
    server.set(**dict.fromkeys(names, 0))
    return open_at(server.endpoint, tmp_path)


def open_at(endpoint, tmp_path, bucket="bins"):
    return open_store(f"s3://{bucket}", Settings(tmp_path, "", tmp_path, buckets={bucket: endpoint}))


def photos(first=1, last=400):
    return [f"bin-images/{number:05d}.jpg" for number in range(first, last + 1)]


def test_listing_goes_on_after_a_page(bucket):
    pages = list(bucket.pages("bin-images/"))
    assert max(map(len, pages)) == 1000
    assert sorted(entry.key for page in pages for entry in page) == photos(1, 2500)


def test_one_request_an_object(bucket, server):
    before = server.stats()
    assert all(one.data for one in bucket.fetch(photos(), workers=16))
    after = server.stats()
    assert after["GET bin-images"] - before.get("GET bin-images", 0) == 400
    assert not [kind for kind in after if kind.startswith("HEAD")]


def test_a_troubled_bucket_loses_nothing(bucket, server):
    server.set(busy=0.2, short=0.05, reset=0.05)
    assert sorted(entry.key for page in bucket.pages("bin-images/") for entry in page) == photos(1, 2500)
    found = list(bucket.fetch(photos(), workers=16))
    assert [one.key for one in found] == photos()
    assert all(one.data.endswith(b"\xff\xd9") and one.key[11:16].encode() in one.data[:30] for one in found)
    assert {"503 SlowDown", "cut short", "connection lost"} <= set(bucket.retries)


def test_a_request_that_stalls_is_asked_again(bucket, server, monkeypatch):
    from bincount.store import s3_connection

    monkeypatch.setattr(s3_connection, "_READ_TIMEOUT_S", 1)
    server.set(stall=0.1)
    assert all(one.data for one in bucket.fetch(photos(1, 60), workers=32))
    assert bucket.retries["no answer in time"] > 0


@pytest.mark.parametrize("behaviour", ["denied", "html"])
def test_a_wrong_bucket_is_one_clear_error_at_once(bucket, server, behaviour):
    server.set(**{behaviour: 1})
    started_s = time.monotonic()
    with pytest.raises(ConfigError, match="s3://bins"):
        list(bucket.fetch(photos(), workers=32))
    assert time.monotonic() - started_s < 15


def test_an_absent_bucket_is_named(moto_endpoint, tmp_path):
    with pytest.raises(ConfigError, match=r"s3://gone at http.*: the bucket must exist, got NoSuchBucket"):
        list(open_at(moto_endpoint, tmp_path, "gone").pages("bin-images/"))


@pytest.mark.slow
def test_an_address_without_a_server_is_given_up_within_15_seconds(tmp_path):
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    started_s = time.monotonic()
    with pytest.raises(StoreError, match=r"s3://bins at http.*: must answer"):
        list(open_at(endpoint, tmp_path).fetch(photos(), workers=32))
    assert time.monotonic() - started_s < 15


@pytest.mark.slow
def test_a_server_that_says_nothing_is_given_up_within_15_seconds(bucket, server):
    server.set(stall=1)
    started_s = time.monotonic()
    with pytest.raises(StoreError, match="must answer"):
        list(bucket.fetch(photos(), workers=32))
    assert time.monotonic() - started_s < 15


def test_a_name_that_nobody_knows_may_be_known_again(tmp_path, monkeypatch):
    monkeypatch.setattr(s3, "UNANSWERED_S", 0.5)
    with pytest.raises(StoreError, match=r"must answer, got .*nobody.invalid.* Check the endpoint and the network"):
        list(open_at("http://nobody.invalid:9000", tmp_path).pages("bin-images/"))


def test_a_bucket_that_comes_back_is_waited_for(bucket, server):
    found = bucket.fetch(photos(), workers=8)
    assert next(found).data
    server.set(down=1)
    back = threading.Timer(3, lambda: server.set(down=0))
    back.start()
    assert all(one.data for one in found)
    back.join()


def test_a_bucket_that_stays_away_fails_the_step(bucket, server, monkeypatch):
    monkeypatch.setattr(s3, "OUTAGE_S", 2)
    found = bucket.fetch(photos(), workers=8)
    assert next(found).data
    server.set(down=1)
    with pytest.raises(StoreError, match=r"must answer, got connection lost.*Run again later; what was read is kept"):
        list(found)


def test_one_object_that_never_comes_whole_is_set_aside(bucket, server, monkeypatch):
    monkeypatch.setattr(s3, "OUTAGE_S", 2)
    server.set(cut_bin=7)
    found = list(bucket.fetch(photos(), workers=8))
    assert [(one.key, one.problem) for one in found if one.problem] == [("bin-images/00007.jpg", "not readable")]


def test_an_object_that_is_denied_later_is_set_aside(bucket, server):
    found = bucket.fetch([*photos(1, 40), *photos(41, 42)], workers=1)
    assert next(found).data
    server.set(denied=1)
    assert {one.problem for one in found} <= {"", "denied"}


def test_a_key_that_obstore_refuses_does_not_stop_the_listing(moto_endpoint, new_bucket, tmp_path):
    client, name = new_bucket(moto_endpoint)
    keys = {"bin-images/", "bin-images/00001.jpg", "bin-images/a//b.jpg", "bin-images/ä b.jpg", "bin-images/../x"}
    for key in keys:
        client.put_object(Bucket=name, Key=key, Body=b"x")
    found = {entry.key for page in open_at(moto_endpoint, tmp_path, name).pages("bin-images/") for entry in page}
    assert found == keys - {"bin-images/"}  # some tools make it for the folder; it is no bin
