"""Ingest from a folder and from a bucket: twice is once, bad objects are data, nothing half-published."""

import csv
import dataclasses
import json
import logging
import os
import shutil
import struct
import time
from hashlib import file_digest

import pytest

from bincount.dataset import job, placement, shards
from bincount.dataset.fetch import fetch
from bincount.dataset.ingest import collect, ingest, join
from bincount.dataset.manifest import Manifest
from bincount.dataset.plan import plan as plan_shards
from bincount.dataset.shards import decode_example, read_record
from bincount.dataset.split import check_disjoint, part_of
from bincount.errors import ConfigError, DataError, StoreError
from bincount.settings import Settings
from bincount.store import s3
from bincount.tracking import runs
from bincount.tracking.client import mlflow_client
from tests.bins import metadata, photo, resized, saved, write_bin, write_bins
from tests.bucket_server import count_of, run_server
from tests.shared import ABID, needs_abid
from tests.stores import make_settings


@pytest.fixture(scope="session")
def bins(tmp_path_factory):
    """A folder of 400 sound bins; not to be changed."""
    return write_bins(tmp_path_factory.mktemp("bins"))


@pytest.fixture
def changeable(bins, tmp_path):
    """A copy of the sound bins."""
    return shutil.copytree(bins, tmp_path / "bucket")


@pytest.fixture
def settings(tmp_path):
    return Settings(tmp_path / "data", "", tmp_path)


@pytest.fixture(scope="module")
def server():
    with run_server(bins=1000, photo_bytes=2000) as running:
        yield running


@pytest.fixture
def of_server(server, tmp_path, monkeypatch):
    """Settings for a server of 1,000 bins whose counts are 0 to 9."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    names = ("latency_ms", "busy", "short", "reset", "stall", "down", "denied", "html", "cut_bin")
    server.set(**dict.fromkeys(names, 0))
    return Settings(tmp_path / "data", "", tmp_path, buckets={"bins": server.endpoint})


def read(settings, summary):
    return Manifest.read(settings.manifests, summary["manifest"])


def examples(settings, manifest):
    """Every record of a manifest with what its shard holds."""
    for record in manifest.records:
        with (settings.shards / manifest.shards[record.shard].name).open("rb") as file:
            yield record, decode_example(read_record(file, record.offset))


def rejected(settings, summary):
    with (settings.manifests / f"{summary['manifest']}.rejected.csv").open(newline="") as file:
        return {row["id"]: row["reason"] for row in csv.DictReader(file)}


def asked(server):
    """Requests so far, by kind of object."""
    return {kind: count for kind, count in server.stats().items() if kind.startswith("GET ")}


def test_the_manifest_does_not_depend_on_how_the_folder_is_written(bins, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(bins)
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(bins.parent))
    ways = [str(bins), "link/", "beside/../link", f"link/../{bins.name}", f"~/{bins.name}", os.path.relpath(bins)]
    found = {
        way: collect(Settings(tmp_path / str(number), "", tmp_path), source=way)["manifest"]
        for number, way in enumerate(ways)
    }
    assert len(set(found.values())) == 1, found


def test_what_was_fetched_is_what_was_there(settings, bins, monkeypatch):
    monkeypatch.setattr(placement, "SHARD_BYTES", 50_000)
    summary = collect(settings, source=str(bins))
    manifest = read(settings, summary)
    assert summary["bins"] == len(manifest.records) == 400
    assert sum(summary["parts"].values()) == 400
    assert len(manifest.shards) > 5
    for record, example in examples(settings, manifest):
        assert example["id"] == record.id.encode()
        assert example["image"] == (bins / "bin-images" / f"{record.id}.jpg").read_bytes()
        assert example["metadata"] == (bins / "metadata" / f"{record.id}.json").read_bytes()
        assert example["recorded"] == record.recorded == 1 + sum(map(ord, record.id)) % 5
        assert (record.part, record.n_skus) == (part_of(record.id), 1)
        assert (record.width_px, record.height_px, record.size_bytes) == (32, 24, len(example["image"]))
    check_disjoint(manifest.records)
    card = json.loads((settings.manifests / f"{summary['manifest']}.card.json").read_bytes())
    assert (card["bins"], card["parts"], card["rejected"]) == (400, summary["parts"], {})
    assert sum(card["counts"].values()) == 400


def test_twice_is_once(of_server, server, caplog):
    caplog.set_level(logging.INFO)
    first = collect(of_server, source="s3://bins")
    before = asked(server)
    assert collect(of_server, source="s3://bins") == first
    after = asked(server)
    assert {kind for kind in after if after[kind] != before[kind]} == {"GET list"}
    assert "is complete already" in caplog.text
    assert [path.suffix for path in of_server.ingests.glob("*/*") if path.suffix != ".lock"] == [".json"] * 2


def test_an_unwanted_photo_is_not_fetched(of_server, server):
    before = server.stats()
    summary = collect(of_server, source="s3://bins", counts="1-3")
    after = server.stats()
    fetched = {kind: after[kind] - before.get(kind, 0) for kind in ("GET metadata", "GET bin-images")}
    wanted = [f"{number:05d}" for number in range(1, 1001) if count_of(number) in (1, 2, 3)]
    assert summary["bins"] + summary["siblings"] == len(wanted)
    assert fetched == {"GET metadata": 1000, "GET bin-images": summary["bins"]}


def test_an_open_top_keeps_the_rest(of_server):
    closed, opened = (collect(of_server, source="s3://bins", counts=counts) for counts in ("0-5", "0-5+"))
    assert closed["bins"] < opened["bins"] == 1000 - opened["siblings"]


def test_bins_with_other_counts_are_learned_from_and_change_nothing_else(of_server):
    plain = collect(of_server, source="s3://bins", counts="1-3")
    answer = collect(of_server, source="s3://bins", counts="1-3", other_counts=True)
    assert answer["parts"].pop("auxiliary") > 0
    assert answer["parts"] == plain["parts"]
    assert answer["bins"] == plain["bins"]
    assert answer["manifest"] != plain["manifest"]


def test_a_troubled_bucket_gives_the_same_manifest(of_server, server, tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "SHARD_BYTES", 200_000)
    calm = collect(of_server, source="s3://bins")
    server.set(busy=0.2, short=0.05, reset=0.05)
    other = Settings(tmp_path / "other", "", tmp_path, buckets=of_server.buckets)
    assert collect(other, source="s3://bins", workers=7) == calm


def test_a_draw_is_reproducible_and_another_seed_another(of_server, tmp_path):
    def draw(name, **asked):
        found = Settings(tmp_path / name, "", tmp_path, buckets=of_server.buckets)
        return [record.id for record in read(found, collect(found, source="s3://bins", limit=300, **asked)).records]

    first = draw("a", seed=1, workers=3)
    assert draw("b", seed=1, workers=64) == first != draw("c", seed=2)
    # Of more bins, the same come first: every drawn one is drawn again.
    more = Settings(tmp_path / "d", "", tmp_path, buckets=of_server.buckets)
    ids = {record.id for record in read(more, collect(more, source="s3://bins", limit=400, seed=1)).records}
    assert len(set(first) - ids) <= 5  # all but siblings of the new ones


def test_a_finished_ingest_of_named_bins_asks_nothing(of_server, server, tmp_path):
    (tmp_path / "ids.txt").write_text("\n".join(f"{number:05d}" for number in range(1, 1001, 2)))
    first = collect(of_server, source="s3://bins", ids=str(tmp_path / "ids.txt"))
    before = asked(server)
    assert collect(of_server, source="s3://bins", ids=str(tmp_path / "ids.txt")) == first
    assert asked(server) == before
    assert collect(of_server, source="s3://bins", ids="00001-01000")["bins"] > first["bins"]


def test_both_families_live_side_by_side(settings, bins, tmp_path):
    folder = shutil.copytree(bins, tmp_path / "bucket")
    write_bin(folder, "00523", recorded=2)
    write_bin(folder, "523", recorded=4, image=photo(7))
    write_bin(folder, "100523", recorded=5)
    found = {record.id: record for record in read(settings, collect(settings, source=str(folder))).records}
    assert (found["00523"].recorded, found["523"].recorded, found["100523"].recorded) == (2, 4, 5)
    assert found["00523"].etag != found["523"].etag
    assert found["523"].group == "523"


BAD = {
    "01001": ("photo is missing", {"image": None}),
    "01002": ("metadata is missing", {"document": None}),
    "01003": ("metadata is no JSON", {"document": b'{"EXPECTED_QUANTITY": 3,'}),
    "01004": ("recorded count is no count", {"document": metadata(-1)}),
    "01006": ("recorded count is no count", {"document": metadata(2.5)}),
    "01007": (
        "recorded count is not the sum of its products",
        {"document": metadata(3).replace(b'_QUANTITY": 3', b'_QUANTITY": 2')},
    ),
    "01008": ("photo is empty", {"image": b""}),
    "01009": ("photo is cut short", {"image": photo()[:600]}),
    "01011": ("photo is a PNG of a rare kind", {"image": saved(kind="PNG", mode="I;16")}),
    "01012": ("photo has too many pixels", {"image": resized(saved(), 60_000, 60_000)}),
    "01013": ("photo is no JPEG or PNG", {"image": b"<Error><Code>NoSuchKey</Code></Error>"}),
    "01014": ("metadata is no JSON", {"document": b""}),
}


def spoil(folder):
    for bin_id, (_, how) in BAD.items():
        write_bin(folder, bin_id, recorded=3, **{name: data for name, data in how.items() if data is not None})
        if how.get("image", b"") is None:
            (folder / "bin-images" / f"{bin_id}.jpg").unlink()
        if how.get("document", b"") is None:
            (folder / "metadata" / f"{bin_id}.json").unlink()


@pytest.mark.parametrize("ids", [None, "00000-01999"])
def test_bad_objects_are_set_aside_with_their_reason(settings, changeable, tmp_path, ids):
    spoil(changeable)
    named = None
    if ids:
        named = str(tmp_path / "ids.txt")
        (tmp_path / "ids.txt").write_text("\n".join([*BAD, *(f"{number:05d}" for number in range(0, 2000, 5))]))
    summary = collect(settings, source=str(changeable), ids=named, max_rejected=0.05)
    assert rejected(settings, summary) == {bin_id: reason for bin_id, (reason, _) in BAD.items()}
    assert (summary["bins"], summary["rejected"]) == (400, len(BAD))


def test_too_many_bad_objects_publish_nothing_and_are_looked_at_again(settings, changeable):
    spoil(changeable)
    with pytest.raises(DataError, match=r"at most 2.00% of .* bins may be faulty, got \d+: .*x metadata is") as caught:
        collect(settings, source=str(changeable))
    assert "Nothing was published" in str(caught.value)
    assert not list(settings.workspace.glob("manifests/*"))
    # A larger share is allowed: the same request goes on and finishes.
    summary = collect(settings, source=str(changeable), max_rejected=0.05)
    assert summary["rejected"] == len(BAD)
    with pytest.raises(DataError, match=f"see {summary['manifest']}.rejected.csv"):
        collect(settings, source=str(changeable))


def test_a_mended_photo_is_found_though_nothing_was_listed(settings, changeable, tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "SHARD_BYTES", 100_000_000)
    named = tmp_path / "ids.txt"
    named.write_text("\n".join(f"{number:05d}" for number in range(0, 2000, 5)))
    whole = {number: (changeable / "bin-images" / f"{number:05d}.jpg").read_bytes() for number in range(0, 100, 5)}
    for number in whole:
        (changeable / "bin-images" / f"{number:05d}.jpg").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError, match="20 x photo is empty"):
            collect(settings, source=str(changeable), ids=str(named))
    for number, data in whole.items():
        (changeable / "bin-images" / f"{number:05d}.jpg").write_bytes(data)
    summary = collect(settings, source=str(changeable), ids=str(named))
    assert (summary["bins"], summary["rejected"]) == (400, 0)


def test_raising_the_share_fetches_nothing_again(of_server, server):
    ids = [f"{number:05d}" for number in range(1, 1101)]  # 100 of them are not there
    named = of_server.workspace.parent / "ids.txt"
    named.write_text("\n".join(ids))
    with pytest.raises(DataError, match="x metadata is missing"):
        collect(of_server, source="s3://bins", ids=str(named))
    before = asked(server)
    assert collect(of_server, source="s3://bins", ids=str(named), max_rejected=0.2)["rejected"] == 100
    # The missing ones, and whether they exist without their zeros.
    assert asked(server)["GET metadata"] - before["GET metadata"] == 100 + 100


def test_siblings_at_a_border_are_set_aside_and_counted(settings, changeable):
    border = next(number for number in range(20, 2000, 20) if part_of(f"{number - 1:05d}") != part_of(f"{number:05d}"))
    before, behind = f"{border - 1:05d}", f"{border:05d}"
    for bin_id in (before, behind):
        write_bin(changeable, bin_id, recorded=2, skus=("SAME",))
    write_bin(changeable, f"{border + 1:05d}", recorded=3, skus=("OTHER",))
    summary = collect(settings, source=str(changeable), max_rejected=0)
    assert rejected(settings, summary) == {behind: "sibling in another part"}
    assert (summary["rejected"], summary["siblings"]) == (0, 1)
    assert {before, f"{border + 1:05d}"} <= {record.id for record in read(settings, summary).records}


@pytest.mark.parametrize("of", [2, 5])
def test_partitions_give_the_manifest_of_one(of_server, tmp_path, monkeypatch, of):
    monkeypatch.setattr(placement, "SHARD_BYTES", 200_000)
    alone = collect(of_server, source="s3://bins")
    shared = Settings(tmp_path / "shared", "", tmp_path, buckets=of_server.buckets)
    planned = plan_shards(shared, source="s3://bins")
    request = planned["plan"]
    fetched = [fetch(shared, plan=request, share=f"1/{of}")]
    with pytest.raises(StoreError, match="must be finished before it is joined"):
        join(shared, request, 0)
    fetched += [fetch(shared, plan=request, share=f"{number}/{of}") for number in range(2, of + 1)]
    assert sum(share["shards"] for share in fetched) == planned["shards"] > of
    assert join(shared, request, 0) == alone == collect(shared, source="s3://bins")
    # Done is done, for one share too.
    assert fetch(shared, plan=request, share=f"1/{of}") == {"shards": 0}
    assert plan_shards(shared, source="s3://bins") == planned | {"finished": True}


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"plan": "abc"}, "--plan: must be planned first, got 'abc'. Run `bincount plan`"),
        ({"plan": "../abc"}, "--plan: must be letters and digits"),
        ({"plan": "abc", "share": "3/2"}, "--share: must be such as 1/3, from 1/N to N/N, got '3/2'"),
        ({"plan": "abc", "workers": 0}, "workers: must be a whole number from 1 to 512"),
    ],
)
def test_a_wrong_share_is_named_and_leaves_nothing(settings, asked, rule):
    with pytest.raises(ConfigError, match=rule):
        fetch(settings, **asked)
    assert not settings.workspace.exists()


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_shard_is_written_again(settings, bins, monkeypatch, damage):
    monkeypatch.setattr(placement, "SHARD_BYTES", 100_000)
    summary = collect(settings, source=str(bins))
    shards = {path: path.read_bytes() for path in settings.shards.glob("*.tfrecord")}
    hurt = sorted(shards)[1]
    if damage == "gone":
        hurt.unlink()
    else:
        hurt.write_bytes(shards[hurt][:-1] if damage == "cut" else b"\x00" + shards[hurt][1:])
    assert collect(settings, source=str(bins)) == summary
    assert {path: path.read_bytes() for path in settings.shards.glob("*.tfrecord")} == shards


def test_a_bucket_that_stops_leaves_what_was_read(of_server, server, monkeypatch):
    monkeypatch.setattr(s3, "OUTAGE_S", 1)
    monkeypatch.setattr(placement, "SHARD_BYTES", 100_000)
    from bincount.dataset import fetch

    written = []
    write = fetch._write_shard

    def stop_after_three(*args):
        written.append(write(*args))
        if len(written) == 3:
            server.set(down=1)
        return written[-1]

    monkeypatch.setattr(fetch, "_write_shard", stop_after_three)
    with pytest.raises(StoreError, match="what was read is kept"):
        collect(of_server, source="s3://bins", workers=4)
    assert not list(of_server.workspace.glob("manifests/*"))
    server.set(down=0)
    kept = len(list(of_server.shards.glob("*.json")))
    assert kept >= 3
    before = server.stats()
    time.sleep(1)
    while (now := server.stats())["GET bin-images"] != before["GET bin-images"]:  # the first run's last requests
        before = now
        time.sleep(1)
    summary = collect(of_server, source="s3://bins")
    after = server.stats()
    assert after["GET metadata"] == before["GET metadata"]
    assert after["GET bin-images"] - before["GET bin-images"] == summary["bins"] - sum(
        len(one.packed) for one in written[:kept]
    )


def test_a_small_disk_is_named_before_the_first_photo(settings, bins, monkeypatch):
    monkeypatch.setattr(job.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(ConfigError, match=r"must have room for 0\.2 GB, got 0\.0 GB"):
        collect(settings, source=str(bins))
    assert not list(settings.workspace.glob("shards/*.tfrecord"))


def test_a_full_disk_is_named(settings, bins, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="must be writable and have room, got 'No space left on device'"):
        collect(settings, source=str(bins))


def test_a_small_draw_says_how_many_bins_it_takes(settings, bins):
    with pytest.raises(DataError, match=r"parts: each must hold a bin, got none for .* Take about \d+ bins"):
        collect(settings, source=str(bins), limit=3)


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"limit": 0}, "limit: must be a whole number from 1"),
        ({"workers": 0}, "workers: must be a whole number from 1 to 512"),
        ({"max_rejected": 1.5}, "max_rejected: must be a number from 0 to 1"),
        ({"counts": "five"}, "counts: must be a range"),
        ({"ids": "absent.txt"}, "--ids: must be a text file of ids, plain or gzip, or a range"),
        ({"source": "absent"}, "source: must be a folder or s3://BUCKET"),
    ],
)
def test_a_wrong_setting_is_named(settings, bins, asked, rule, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rule):
        collect(settings, **{"source": str(bins), **asked})


def test_an_empty_folder_is_named(settings, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"must hold bin-images/<id>\.jpg and metadata/<id>\.json"):
        collect(settings, source=str(tmp_path / "empty"))


def test_the_run_holds_the_card_and_is_found_again(tmp_path, bins):
    settings = make_settings(tmp_path)
    first = ingest(settings, source=str(bins), limit=300, attempt="manual__1")
    assert ingest(settings, source=str(bins), limit=300, attempt="manual__1") == first
    with mlflow_client(settings, "test") as client:
        run = client.get_run(first["run_id"])
        names = {entry.path for entry in client.list_artifacts(first["run_id"], "data")}
    assert {"data/card.json", "data/counts.png", "data/groups.png", "data/sizes.png"} <= names
    assert run.inputs.dataset_inputs[0].dataset.digest == first["manifest"]
    assert run.data.params["source"] == str(bins)


def test_a_failed_ingest_fails_its_run(tmp_path, bins):
    settings = make_settings(tmp_path)
    with pytest.raises(DataError):
        ingest(settings, source=str(bins), limit=2, attempt="manual__2")
    run_id = runs.open_run(settings, attempt="manual__3")
    with mlflow_client(settings, "test") as client:
        experiment = client.get_run(run_id).info.experiment_id
        failed = client.search_runs([experiment], "attributes.status = 'FAILED'")
    assert len(failed) == 1


@needs_abid
def test_two_hundred_real_bins_are_enough(settings):
    summary = collect(settings, source=str(ABID), limit=200)
    assert summary["bins"] + summary["siblings"] == 200
    assert summary["rejected"] == 0
    assert min(summary["parts"].values()) > 0


@needs_abid
def test_a_packed_list_of_ids_is_read(settings):
    asked = {"source": str(ABID), "ids": str(ABID / "all_counts.csv.gz"), "limit": 5}
    with pytest.raises(DataError, match="x metadata is missing"):
        collect(settings, **asked)


@needs_abid
def test_the_seeds_list_of_ids_is_taken_as_it_is(settings):
    summary = collect(settings, source=str(ABID), ids=str(ABID / "file_list.json"), max_rejected=1)
    counts = {record.recorded for record in read(settings, summary).records}
    assert counts == {1, 2, 3, 4, 5}
    assert any(len(record.id) < 5 for record in read(settings, summary).records)


def content_of(settings, summary):
    """The digest of a manifest without what depends on the machine: the folder's path and the files' times."""
    manifest = read(settings, summary)
    named = [dataclasses.replace(shard, name=str(number)) for number, shard in enumerate(manifest.shards)]
    return dataclasses.replace(manifest, source="", shards=named).digest


@needs_abid
def test_real_bins_give_the_manifest_and_shards_that_they_always_gave(settings):
    assert content_of(settings, collect(settings, source=str(ABID), limit=400, seed=0)) == "c4d90ada5f4c7012"


def test_bins_give_the_manifest_and_shards_that_they_always_gave(settings, tmp_path):
    tables = b"\xff\xdb\x00\x43\x00" + b"\x01" * 64
    for table in (0x00, 0x10):
        tables += b"\xff\xc4\x00\x14" + bytes([table, 1, *[0] * 15, 0])
    for number in range(0, 2000, 3):
        size = struct.pack(">HH", 40 + number % 7, 60 + number % 11)
        frame = b"\xff\xc0\x00\x0b\x08" + size + b"\x01\x01\x11\x00"
        scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(number % 250)
        skus = [f"S{number // 9}", f"T{number}"]
        for bin_id in [f"{number:05d}", str(number)][: 1 + (number % 5 == 0)]:
            image = b"\xff\xd8" + tables + frame + scan + b"\xff\xd9"
            write_bin(tmp_path / "bucket", bin_id, recorded=number % 8, skus=skus, image=image)
    summary = collect(settings, source=str(tmp_path / "bucket"), counts="1-5", limit=300, seed=7)
    assert content_of(settings, summary) == "075a783f56310bdb"


def named_ids(tmp_path, ids):
    (tmp_path / "ids.csv").write_text("\n".join(["id", *ids]))
    return str(tmp_path / "ids.csv")


@pytest.mark.parametrize("accidental", [0, 300])
def test_ids_that_lost_their_zeros_stop_an_ingest(settings, changeable, tmp_path, accidental):
    for number in range(0, accidental, 5):  # as many bins of the other family as hide the loss
        write_bin(changeable, str(number))
    shortened = [str(number) for number in range(0, 2000, 5)]
    with pytest.raises(
        DataError, match=r"^--ids .*ids\.csv: ids must be written as in the source, .*'\d+' \(the source"
    ):
        collect(settings, source=str(changeable), ids=named_ids(tmp_path, shortened), max_rejected=1)


def test_ids_that_a_system_padded_stop_an_ingest(settings, tmp_path):
    for number in range(1, 400):
        write_bin(tmp_path / "bucket", str(number))
    padded = [f"{number:05d}" for number in range(1, 400)]
    with pytest.raises(DataError, match=r"got '00001' \(the source has '1'\)"):
        collect(settings, source=str(tmp_path / "bucket"), ids=named_ids(tmp_path, padded))


def test_bins_that_are_missing_in_both_spellings_are_only_set_aside(settings, bins, tmp_path):
    ids = [f"{number:05d}" for number in range(0, 2010, 5)]
    summary = collect(settings, source=str(bins), ids=named_ids(tmp_path, ids))
    assert (summary["bins"], summary["rejected"]) == (400, 2)


def test_a_finished_ingest_is_hashed_once(settings, bins, monkeypatch):
    first = collect(settings, source=str(bins))
    shards._sha256_cached.cache_clear()
    hashed = []
    monkeypatch.setattr("hashlib.file_digest", lambda file, name: hashed.append(file.name) or file_digest(file, name))
    assert collect(settings, source=str(bins)) == first
    assert len(hashed) == len(set(hashed)) == len(read(settings, first).shards)
