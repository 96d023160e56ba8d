"""One contract for every store: a folder, the S3 server in this process, any S3 server that an environment names."""

import hashlib
import os

import pytest

from bincount.errors import ConfigError
from bincount.settings import Settings
from bincount.store.open_store import open_store

SERVER = os.environ.get("BINCOUNT_TEST_S3_URL")
OBJECTS = {
    "bin-images/00001.jpg": b"\xff\xd8 padded",
    "bin-images/1.jpg": b"\xff\xd8 unpadded",
    "bin-images/99999.jpg": b"",
    "bin-images/x_9-Z.jpg": b"other",
    "metadata/00001.json": b"{}",
    "index.html": b"<html>",
}


def settings(tmp_path, **buckets):
    return Settings(tmp_path / "data", "sqlite://", tmp_path, buckets=buckets)


_needs_server = pytest.mark.skipif(not SERVER, reason="BINCOUNT_TEST_S3_URL names no S3 server of another make")


@pytest.fixture(params=["folder", "moto", pytest.param("server", marks=_needs_server)])
def opened(request, tmp_path):
    """A store that holds OBJECTS, and a function that puts another object into it."""
    if request.param == "folder":

        def put(key, data):
            path = tmp_path / "bucket" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        for key, data in OBJECTS.items():
            put(key, data)
        return open_store(str(tmp_path / "bucket"), settings(tmp_path)), put
    endpoint = SERVER if request.param == "server" else request.getfixturevalue("moto_endpoint")
    client, name = request.getfixturevalue("new_bucket")(endpoint)

    def put(key, data):
        client.put_object(Bucket=name, Key=key, Body=data)

    for key, data in OBJECTS.items():
        put(key, data)
    return open_store(f"s3://{name}", settings(tmp_path, **{name: endpoint})), put


def listed(store, prefix):
    return {entry.key: entry for page in store.pages(prefix) for entry in page}


def test_lists_every_object_below_a_prefix(opened):
    store, _ = opened
    found = listed(store, "bin-images/")
    assert {key: entry.size_bytes for key, entry in found.items()} == {
        key: len(data) for key, data in OBJECTS.items() if key.startswith("bin-images/")
    }
    assert listed(store, "absent/") == {}


def test_a_tag_changes_with_its_object(opened):
    store, put = opened
    before = listed(store, "bin-images/")
    put("bin-images/00001.jpg", b"\xff\xd8 PADDED")
    after = listed(store, "bin-images/")
    assert before.pop("bin-images/00001.jpg").tag != after.pop("bin-images/00001.jpg").tag
    assert before == after


def test_reads_in_the_order_asked_for(opened):
    store, _ = opened
    keys = ["metadata/00001.json", "bin-images/gone.jpg", *sorted(OBJECTS, reverse=True), "metadata/gone.json"]
    found = list(store.fetch(iter(keys), workers=3))
    assert [one.key for one in found] == keys
    for one in found:
        if one.key in OBJECTS:
            assert (one.data, one.problem) == (OBJECTS[one.key], "")
            assert one.etag == hashlib.md5(OBJECTS[one.key], usedforsecurity=False).hexdigest()
        else:
            assert (one.data, one.problem, one.etag) == (None, "missing", "")
    assert not store.retries


def test_a_reader_may_stop_early_and_begin_again(opened):
    store, _ = opened
    some = store.fetch((f"bin-images/{number:05d}.jpg" for number in range(10**9)), workers=4)
    assert [next(some).problem, next(some).problem] == ["missing", ""]
    some.close()
    assert list(store.fetch([], workers=1)) == []
    assert next(store.fetch(["metadata/00001.json"], workers=1)).data == b"{}"


def test_what_is_far_too_large_is_not_read(opened, monkeypatch):
    from bincount.store import folder, s3

    for module in (folder, s3):
        monkeypatch.setattr(module, "MAX_OBJECT_BYTES", 10)
    store, _ = opened
    found = list(store.fetch(["bin-images/1.jpg", "metadata/00001.json"], workers=2))
    assert [one.problem for one in found] == ["too large", ""]


@pytest.mark.parametrize("source", ["gs://bucket", "https://aft-vbi-pds.s3.amazonaws.com", "", "/absent/folder"])
def test_what_is_no_source_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if source:
        with pytest.raises(ConfigError, match="source: must be"):
            open_store(source, settings(tmp_path))


@pytest.mark.parametrize("source", ["s3://", "s3://Bucket", "s3:///prefix", "s3://a b", "s3://-x-"])
def test_a_wrong_bucket_name_is_named(source, tmp_path):
    with pytest.raises(ConfigError, match="source: a bucket's name must have"):
        open_store(source, settings(tmp_path))


def test_a_folder_that_may_not_be_read_is_no_crash(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "bin-images").mkdir()
    (tmp_path / "bin-images" / "1.jpg").write_bytes(b"x")
    store = open_store(str(tmp_path), settings(tmp_path))
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ConfigError, match="must be readable"):
        list(store.pages("bin-images/"))
    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    assert next(store.fetch(["bin-images/1.jpg"], workers=1)).problem == "denied"
