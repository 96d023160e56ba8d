"""The bucket of a workspace on one's own S3 server: made once, and refused where it is not ours to make."""

import boto3
import pytest

from bincount.errors import ConfigError, StoreError
from bincount.settings import Settings
from bincount.store.make_bucket import make_bucket
from tests.processes import free_ports


@pytest.fixture
def endpoint(monkeypatch):
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def settings_of(folder, workspace="s3://made-here/workspace", **buckets):
    return Settings(folder, "", folder, remote=workspace, buckets=buckets)


def test_the_bucket_is_made_once_and_keeps_what_it_has(tmp_path, endpoint):
    settings = settings_of(tmp_path, **{"made-here": endpoint})
    assert make_bucket(settings) == "s3://made-here: created"
    client = boto3.client("s3", endpoint_url=endpoint)
    client.put_object(Bucket="made-here", Key="workspace/a", Body=b"kept")
    assert make_bucket(settings) == "s3://made-here: is there, nothing changed"
    assert client.get_object(Bucket="made-here", Key="workspace/a")["Body"].read() == b"kept"


@pytest.mark.parametrize("workspace", ["s3://on-aws/workspace", None])
def test_a_bucket_on_aws_or_a_folder_is_left_to_the_operator(tmp_path, workspace):
    with pytest.raises(ConfigError, match="create the bucket yourself"):
        make_bucket(settings_of(tmp_path, workspace))


def test_a_server_that_does_not_answer_is_named(tmp_path, endpoint):
    silent = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(StoreError, match="s3://made-here: its server must answer"):
        make_bucket(settings_of(tmp_path, **{"made-here": silent}), timeout_s=0)
