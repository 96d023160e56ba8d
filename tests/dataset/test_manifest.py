import pytest

from bincount.counts import Counts
from bincount.dataset.manifest import Manifest, Record, Shard
from bincount.errors import DataError

MANIFEST = Manifest(
    source="s3://aft-vbi-pds",
    counts=Counts.parse("0-5+"),
    shards=[Shard("a-00000", "0" * 64, 100)],
    records=[Record("00523", "00522", 3, "train", 2, 500, 400, 50_000, "etag", 0, 0)],
)


def test_reads_back_under_its_digest(tmp_path):
    digest = MANIFEST.write(tmp_path)
    assert Manifest.read(tmp_path, digest) == MANIFEST
    assert MANIFEST.write(tmp_path) == digest
    assert [path.name for path in tmp_path.iterdir()] == [f"{digest}.jsonl"]


def test_a_changed_manifest_is_refused(tmp_path):
    digest = MANIFEST.write(tmp_path)
    path = tmp_path / f"{digest}.jsonl"
    path.write_bytes(path.read_bytes().replace(b"00523", b"00524"))
    with pytest.raises(DataError, match="must have the digest it is named after"):
        Manifest.read(tmp_path, digest)


@pytest.mark.parametrize("digest", ["0123456789abcdef", "../x", ""])
def test_an_absent_manifest_says_what_to_run(tmp_path, digest):
    with pytest.raises(DataError, match="Run `bincount ingest` first"):
        Manifest.read(tmp_path, digest)
