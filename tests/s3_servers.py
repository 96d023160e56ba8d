"""S3 servers for tests: moto in this process, and any other that BINCOUNT_TEST_S3_URL names."""

import os
import uuid
import warnings

import boto3
import pytest


@pytest.fixture(scope="session")
def moto_endpoint():
    """Address of an S3 server in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def credentials(monkeypatch):
    """Credentials that moto takes; those of the environment win, for a real server."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, os.environ.get(name, "testing"))


@pytest.fixture
def new_bucket(credentials):
    """Makes a bucket of its own on a server; it is removed afterwards."""
    made = []

    def make(endpoint):
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        name = f"bincount-test-{uuid.uuid4().hex[:12]}"
        client.create_bucket(Bucket=name)
        made.append((client, name))
        return client, name

    yield make
    for client, name in made:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
            for entry in page.get("Contents", []):
                client.delete_object(Bucket=name, Key=entry["Key"])
        client.delete_bucket(Bucket=name)
