"""The embedded S3 server, asked by real S3 clients without credentials."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from bincount.errors import ConfigError
from bincount.local.embedded_s3 import list_objects, open_bucket

BINS = 7


def fill(folder: Path) -> Path:
    for part, suffix in (("bin-images", "jpg"), ("metadata", "json")):
        (folder / part).mkdir(parents=True)
        for number in range(1, BINS + 1):
            (folder / part / f"{number:05d}.{suffix}").write_bytes(f"{part} {number}".encode() * 100)
    return folder


def client_of(port: int) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED, retries={"max_attempts": 1}),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("bins"))


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Any]:
    server = open_bucket(folder, port=0, bucket="some-bins")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = client_of(server.port)
    yield client
    client.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_lists_every_object_once_page_by_page_in_key_order(client: Any, folder: Path) -> None:
    pages = list(client.get_paginator("list_objects_v2").paginate(Bucket="some-bins", PaginationConfig={"PageSize": 3}))
    keys = [item["Key"] for page in pages for item in page["Contents"]]
    assert len(pages) == 5
    assert keys == sorted(list_objects(folder))


def test_lists_below_a_prefix_after_a_key(client: Any) -> None:
    answer = client.list_objects_v2(Bucket="some-bins", Prefix="metadata/", StartAfter="metadata/00005.json")
    assert [item["Key"] for item in answer["Contents"]] == ["metadata/00006.json", "metadata/00007.json"]


def test_gives_the_bytes_their_size_and_their_md5_as_etag(client: Any, folder: Path) -> None:
    data = (folder / "bin-images/00003.jpg").read_bytes()
    answer = client.get_object(Bucket="some-bins", Key="bin-images/00003.jpg")
    assert answer["Body"].read() == data
    assert answer["ContentLength"] == len(data)
    assert answer["ContentType"] == "image/jpeg"
    etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
    assert answer["ETag"] == etag
    assert client.head_object(Bucket="some-bins", Key="bin-images/00003.jpg")["ETag"] == etag
    listed = client.list_objects_v2(Bucket="some-bins", Prefix="bin-images/00003")["Contents"][0]
    assert (listed["ETag"], listed["Size"]) == (etag, len(data))


def test_gives_a_range(client: Any, folder: Path) -> None:
    answer = client.get_object(Bucket="some-bins", Key="bin-images/00003.jpg", Range="bytes=4-9")
    assert answer["Body"].read() == (folder / "bin-images/00003.jpg").read_bytes()[4:10]


@pytest.mark.parametrize("key", ["bin-images/99999.jpg", "bin-images/../metadata/00001.json", "README.md"])
def test_an_absent_key_is_a_404(client: Any, key: str) -> None:
    with pytest.raises(ClientError, match="NoSuchKey") as error:
        client.get_object(Bucket="some-bins", Key=key)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_another_bucket_is_a_404(client: Any) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        client.list_objects_v2(Bucket="other-bins")


def test_nothing_can_be_put_or_deleted(client: Any, folder: Path) -> None:
    with pytest.raises(ClientError, match="is read-only"):
        client.put_object(Bucket="some-bins", Key="bin-images/00001.jpg", Body=b"x" * 200_000)
    with pytest.raises(ClientError, match="is read-only"):
        client.delete_object(Bucket="some-bins", Key="bin-images/00001.jpg")
    got = client.get_object(Bucket="some-bins", Key="bin-images/00001.jpg")["Body"].read()
    assert got == (folder / "bin-images/00001.jpg").read_bytes()


def test_offers_only_the_two_kinds_and_follows_no_link_out(tmp_path: Path) -> None:
    folder = fill(tmp_path / "bins")
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    (folder / "bin-images/00008.jpg").symlink_to(secret)
    (folder / "bin-images/00009.jpg").symlink_to(folder / "bin-images/00001.jpg")
    (folder / "bin-images/notes.txt").write_text("not a photo")
    (folder / "bin-images/deeper.jpg").mkdir()
    (folder / "README.md").write_text("not a bin")
    objects = list_objects(folder)
    assert len(objects) == 2 * BINS + 1
    assert "bin-images/00009.jpg" in objects


def test_a_part_of_the_folder_may_not_lead_out_of_it(tmp_path: Path) -> None:
    outside = fill(tmp_path / "outside")
    folder = tmp_path / "bins"
    folder.mkdir()
    for part in ("bin-images", "metadata"):
        (folder / part).symlink_to(outside / part)
    with pytest.raises(ConfigError, match="must hold bin-images"):
        list_objects(folder)


@pytest.mark.parametrize("missing", ["bin-images", "metadata"])
def test_a_folder_in_another_layout_is_refused(tmp_path: Path, missing: str) -> None:
    folder = fill(tmp_path / "bins")
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(ConfigError, match=rf"must hold .*got no \.\w+ file in '{missing}'. Name the folder"):
        open_bucket(folder, port=0)


def test_a_port_or_name_that_will_not_do_is_refused(folder: Path) -> None:
    server = open_bucket(folder, port=0)
    with pytest.raises(ConfigError, match=rf"--port: must be a free port of 127.0.0.1, got {server.port} .* choose"):
        open_bucket(folder, port=server.port)
    server.server_close()
    with pytest.raises(ConfigError, match=r"--port: .* got 70000"):
        open_bucket(folder, port=70_000)
    with pytest.raises(ConfigError, match=r"--bucket: must be .* got 'A_B'"):
        open_bucket(folder, port=0, bucket="A_B")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_says_when_it_is_ready_and_ends_at_once(folder: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "bincount.local.embedded_s3", "--folder", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        port = int(ready.rsplit(":", 1)[1])
        client = client_of(port)
        assert client.list_objects_v2(Bucket="bins")["KeyCount"] == 2 * BINS
        process.send_signal(number)  # with a connection that is kept alive
        assert process.wait(timeout=2) == 0
        client.close()


def test_the_command_says_what_is_wrong_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bincount.local.embedded_s3", "--folder", str(tmp_path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path}: must hold bin-images/<id>.jpg")
    assert "Traceback" not in done.stderr
