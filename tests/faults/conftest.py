"""A bucket that two machines share, and bins to ingest into it."""

import dataclasses

import pytest

from bincount.dataset import placement
from bincount.dataset.ingest import collect
from tests.bins import write_bins
from tests.faults.machines import BINS, SHARD_BYTES, Machine
from tests.s3_servers import credentials, moto_endpoint, new_bucket  # noqa: F401
from tests.stores import make_settings


@pytest.fixture
def place(tmp_path, moto_endpoint, new_bucket):  # noqa: F811
    """A bucket's client and name, and a function that gives a machine of its own."""
    client, bucket = new_bucket(moto_endpoint)
    make_settings(tmp_path)

    def machine(name, endpoint=moto_endpoint, **more):
        return Machine(tmp_path / name, f"s3://{bucket}/work", endpoint, **more)

    return client, bucket, machine


@pytest.fixture
def bins(tmp_path):
    return write_bins(tmp_path / "bins", bins=BINS)


@pytest.fixture
def calm(tmp_path, bins, monkeypatch):
    """The summary of an ingest of the same bins into a folder."""
    monkeypatch.setattr(placement, "SHARD_BYTES", SHARD_BYTES)
    settings = dataclasses.replace(make_settings(tmp_path), workspace=tmp_path / "calm")
    return collect(settings, source=str(bins))
