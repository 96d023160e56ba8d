"""One contract for a workspace that workers share: a folder, and a bucket with a cache on each machine."""

import hashlib
import threading
import time

import pytest

from bincount.errors import ConfigError, StoreError
from bincount.settings import Settings
from bincount.store import bucket_workspace, lease
from bincount.store.bucket_workspace import BucketWorkspace
from bincount.store.workspace import FolderWorkspace
from bincount.tracking import champion


class Machine:
    """One machine: its settings and its view of the workspace."""

    def __init__(self, settings):
        self.settings, self.root = settings, settings.workspace
        self.shared = BucketWorkspace(settings) if settings.remote else FolderWorkspace()

    def write(self, name, content, *, push=True):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if push:
            self.shared.push(path)
        return path

    def read(self, name):
        self.shared.pull(self.root / name)
        path = self.root / name
        return path.read_bytes() if path.exists() else None

    def names(self, folder):
        self.shared.pull_folder(self.root / folder)
        return sorted(path.name for path in (self.root / folder).glob("*") if path.is_file())


@pytest.fixture
def bucket(request, tmp_path):
    """A bucket's client, its name, and a function that gives a machine of its own."""
    endpoint = request.getfixturevalue("moto_endpoint")
    client, name = request.getfixturevalue("new_bucket")(endpoint)

    def machine(number, **more):
        folder = tmp_path / f"machine-{number}"
        return Machine(
            Settings(folder, "sqlite://", tmp_path, remote=f"s3://{name}/work", buckets={name: endpoint}, **more)
        )

    return client, name, machine


@pytest.fixture(params=["folder", "bucket"])
def two(request, tmp_path):
    """Two machines with one workspace."""
    if request.param == "folder":
        settings = Settings(tmp_path / "data", "sqlite://", tmp_path)
        return Machine(settings), Machine(settings)
    _, _, machine = request.getfixturevalue("bucket")
    return machine(1), machine(2)


@pytest.fixture
def short_leases(monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 1.0)


def test_one_reads_what_the_other_pushed(two):
    first, second = two
    first.write("manifests/abc.jsonl", b"one")
    assert second.read("manifests/abc.jsonl") == b"one"


def test_the_newest_version_is_read(two):
    first, second = two
    first.write("runs/1/note.json", b"one")
    assert second.read("runs/1/note.json") == b"one"
    first.write("runs/1/note.json", b"another")
    assert second.read("runs/1/note.json") == b"another"


def test_what_is_not_there_is_not_read(two):
    _, second = two
    assert second.read("manifests/none.jsonl") is None


def test_a_folder_is_read_whole_and_by_name(two):
    first, second = two
    for name in ("runs/1/a.json", "runs/1/b.npy", "runs/11/c.json"):
        first.write(name, b"x")
    assert second.names("runs/1") == ["a.json", "b.npy"]


def test_what_was_deleted_is_gone(two):
    first, second = two
    path = first.write("ingests/1/plan.jsonl", b"x")
    first.write("ingests/1/done.json", b"x")
    assert second.names("ingests/1") == ["done.json", "plan.jsonl"]
    path.unlink()
    first.shared.delete(path)
    assert second.names("ingests/1") == ["done.json"]


def test_what_was_deleted_elsewhere_can_be_written_again(two):
    """A killed worker's state outlives here what another one finished and deleted there."""
    first, second = two
    path = first.write("reconciles/1.snapshot", b"one")
    path.write_bytes(b"changed")
    assert second.read("reconciles/1.snapshot") is not None
    second.shared.delete(second.root / "reconciles/1.snapshot")
    assert first.read("reconciles/1.snapshot") == b"changed"
    first.write("reconciles/1.snapshot", b"another")
    assert second.read("reconciles/1.snapshot") == b"another"


def test_a_published_folder_replaces_the_one_before(two):
    first, second = two
    folder = first.root / "runs/1/model"
    first.write("runs/1/model/model.json", b"old", push=False)
    first.write("runs/1/model/extra.json", b"old", push=False)
    first.shared.publish(folder, last="model.json")
    assert second.names("runs/1/model") == ["extra.json", "model.json"]
    (folder / "extra.json").unlink()
    (folder / "model.json").write_bytes(b"new")
    first.shared.publish(folder, last="model.json")
    assert second.names("runs/1/model") == ["model.json"]
    assert second.read("runs/1/model/model.json") == b"new"


def test_one_at_a_time(two, short_leases):
    inside, most, order = [0], [0], []

    def work(machine, name):
        for _ in range(3):
            with machine.shared.lock(machine.root / "ingests/1/plan.lock", "plan"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                order.append(name)
                time.sleep(0.02)
                inside[0] -= 1

    threads = [threading.Thread(target=work, args=each) for each in zip(two, "ab", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(order) == 6
    assert most == [1]


def test_who_waits_too_long_is_told(two, short_leases):
    first, second = two
    path = "champion.lock"
    with (
        first.shared.lock(first.root / path, "champion"),
        pytest.raises(StoreError, match="champion: must be done by one at a time, got another for 0 s"),
        second.shared.lock(second.root / path, "champion", timeout_s=0.3),
    ):
        pass


def test_a_file_that_another_changed_is_not_overwritten(bucket):
    _, _, machine = bucket
    first, second = machine(1), machine(2)
    first.write("runs/1/note.json", b"first")
    assert second.read("runs/1/note.json") == b"first"
    second.write("runs/1/note.json", b"second")
    with pytest.raises(StoreError, match="must be as it was when this worker read it"):
        first.write("runs/1/note.json", b"stale")
    assert machine(3).read("runs/1/note.json") == b"second"


def test_a_file_is_created_once(bucket):
    _, _, machine = bucket
    first, second = machine(1), machine(2)
    first.write("runs/1/note.json", b"first")
    second.write("runs/1/note.json", b"first")  # the same content is no conflict
    with pytest.raises(StoreError, match="Nothing was overwritten"):
        machine(3).write("runs/1/note.json", b"other")


def test_a_folder_that_another_published_is_not_replaced(bucket):
    """A worker that was thought dead ends after the one that took over."""
    _, _, machine = bucket
    first, second = machine(1), machine(2)
    for name in ("data.txt", "model.json"):
        second.write(f"runs/1/model/{name}", b"late", push=False)
        first.write(f"runs/1/model/{name}", b"first", push=False)
    first.shared.publish(first.root / "runs/1/model", last="model.json")
    with pytest.raises(StoreError, match="must be as it was when this worker read it"):
        second.shared.publish(second.root / "runs/1/model", last="model.json")
    third = machine(3)
    assert third.names("runs/1/model") == ["data.txt", "model.json"]
    assert {third.read(f"runs/1/model/{name}") for name in ("data.txt", "model.json")} == {b"first"}


def test_work_in_progress_stays_here(bucket):
    client, name, machine = bucket
    first = machine(1)
    for own in ("a.lock", "b.json.damaged", ".c.json.1234", "d.partial", "e.beside.npy", "f.db-wal"):
        first.write(f"runs/1/{own}", b"x", push=False)
    first.write("runs/1/real.json", b"x", push=False)
    first.shared.push(first.root / "runs", first.root / "runs/1/b.json.damaged")
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket=name)["Contents"]] == ["work/runs/1/real.json"]


def test_nothing_is_sent_twice(bucket):
    _, _, machine = bucket
    first, second = machine(1), machine(2)
    path = first.write("shards/1.tfrecord", b"x" * 1000)
    second.read("shards/1.tfrecord")
    first.shared.push(path)
    second.read("shards/1.tfrecord")
    assert first.shared.usage["pushed"] == 1000
    assert first.shared.usage["put"] == 2  # one of them to see whether the server has conditional writes
    assert second.shared.usage["pulled"] == 1000


def test_a_damaged_object_is_noticed(bucket):
    client, name, machine = bucket
    machine(1).write("manifests/1.jsonl", b"right")
    client.put_object(Bucket=name, Key="work/manifests/1.jsonl", Body=b"wrong", Metadata={"sha256": "0" * 64})
    second = machine(2)
    with pytest.raises(StoreError, match=r"1.jsonl: must have the SHA-256 that was pushed"):
        second.read("manifests/1.jsonl")
    assert not (second.root / "manifests/1.jsonl").exists()


def test_a_file_that_others_put_there_is_read(bucket):
    """Records are copied into the bucket by any client, without a digest."""
    client, name, machine = bucket
    client.put_object(Bucket=name, Key="work/records/today.csv", Body=b"id,recorded\n")
    assert machine(1).names("records") == ["today.csv"]


def test_the_digest_of_a_file_elsewhere(bucket):
    _, _, machine = bucket
    machine(1).write("shards/1.tfrecord", b"x")
    second = machine(2)
    assert second.shared.sha256_of(second.root / "shards/1.tfrecord") == hashlib.sha256(b"x").hexdigest()
    assert second.shared.sha256_of(second.root / "shards/2.tfrecord") is None


def test_a_dead_holders_lease_is_taken_over(bucket, short_leases):
    _, _, machine = bucket
    first, second = machine(1), machine(2)
    dead = lease.Lease(lambda ask, stopped: first.shared._ask("lease", ask, stopped), "work/plan.lock", "plan")
    dead._acquire()  # and nobody renews it
    began = time.monotonic()
    with second.shared.lock(second.root / "plan.lock", "plan"):
        assert 1.0 <= time.monotonic() - began < 8
        (held,) = second.shared._leases
        assert held.number == dead.number + 1


def test_a_holder_that_slept_cannot_publish(bucket, short_leases, monkeypatch):
    _, _, machine = bucket
    first, second = machine(1), machine(2)
    monkeypatch.setattr(lease.Lease, "_keep_renewing", lambda self: None)  # it sleeps
    with first.shared.lock(first.root / "plan.lock", "plan"):
        with second.shared.lock(second.root / "plan.lock", "plan"):
            pass
        with pytest.raises(StoreError, match="did not renew its lease for 1 s"):
            first.write("runs/1/note.json", b"late")
    assert machine(2).read("runs/1/note.json") is None


def test_a_lease_that_expired_and_nobody_took_is_renewed(bucket, short_leases, monkeypatch):
    _, _, machine = bucket
    first, second = machine(1), machine(2)
    monkeypatch.setattr(lease.Lease, "_keep_renewing", lambda self: None)
    with first.shared.lock(first.root / "plan.lock", "plan"):
        time.sleep(1.2)
        first.write("runs/1/note.json", b"in time")
        with pytest.raises(StoreError, match="must be done by one at a time"):
            second.shared.lock(second.root / "plan.lock", "plan", timeout_s=0.3).__enter__()
    assert second.read("runs/1/note.json") == b"in time"


def test_a_bucket_that_was_away_is_no_reason_to_take_a_lease(bucket, short_leases, monkeypatch):
    """Its holder could not renew it either."""
    _, _, machine = bucket
    first, second = machine(1), machine(2)
    read, reads = lease.Lease._read, []

    def away(self):
        reads.append(time.monotonic())
        if len(reads) == 2:
            time.sleep(1.5)
        return read(self)

    monkeypatch.setattr(lease.Lease, "_keep_renewing", lambda self: None)
    with first.shared.lock(first.root / "plan.lock", "plan"):
        monkeypatch.setattr(lease.Lease, "_read", away)
        began = time.monotonic()
        with second.shared.lock(second.root / "plan.lock", "plan"):
            assert time.monotonic() - began > 2.4, "it waits as long again"


def test_a_living_holder_keeps_its_lease(bucket, short_leases):
    _, _, machine = bucket
    first, second = machine(1), machine(2)
    with first.shared.lock(first.root / "plan.lock", "plan"):
        with (
            pytest.raises(StoreError, match="must be done by one at a time"),
            second.shared.lock(second.root / "plan.lock", "plan", timeout_s=2.5),
        ):
            pass
        first.write("runs/1/note.json", b"in time")
    assert machine(3).read("runs/1/note.json") == b"in time"


def test_the_cache_keeps_its_bound(bucket):
    _, _, machine = bucket
    first = machine(1)
    for number in range(4):
        first.write(f"shards/{number}.tfrecord", bytes([number]) * 1000)
    for number in range(4):  # each by a process of its own, the one before is dead
        second = machine(2, cache_gb=2500 / 1e9)
        assert second.read(f"shards/{number}.tfrecord") is not None
        second.shared._cache.close()
    assert sorted(path.name for path in (second.root / "shards").iterdir()) == ["2.tfrecord", "3.tfrecord"]


def test_what_a_living_process_uses_stays(bucket):
    _, _, machine = bucket
    first = machine(1)
    for number in range(4):
        first.write(f"shards/{number}.tfrecord", bytes([number]) * 1000)
    second = machine(2, cache_gb=2500 / 1e9)
    for number in range(4):
        second.read(f"shards/{number}.tfrecord")
    assert len(list((second.root / "shards").iterdir())) == 4


def test_work_that_is_not_pushed_is_never_thrown_away(bucket):
    _, _, machine = bucket
    first = machine(1, cache_gb=1500 / 1e9)
    path = first.write("runs/1/state.npz", b"a" * 1000)
    path.write_bytes(b"b" * 1001)
    first.shared._cache.close()
    machine(2).write("shards/1.tfrecord", b"c" * 1000)
    again = machine(1, cache_gb=1500 / 1e9)
    again.read("shards/1.tfrecord")
    assert path.read_bytes() == b"b" * 1001


def test_a_server_without_conditional_writes_is_refused(bucket, monkeypatch):
    import obstore

    real = obstore.put
    monkeypatch.setattr(obstore, "put", lambda *args, mode=None, **kwargs: real(*args, **kwargs))
    _, _, machine = bucket
    with pytest.raises(ConfigError, match="must have conditional writes"):
        machine(1)


def test_a_checkpoint_is_seldom(bucket, monkeypatch):
    _, _, machine = bucket
    first = machine(1)
    path = first.write("ingests/1/metadata.journal", b"a", push=False)
    first.shared.checkpoint(path)
    assert first.shared.usage["pushed"] == 0
    monkeypatch.setattr(bucket_workspace, "_CHECKPOINT_S", 0.0)
    other = first.write("ingests/1/other.journal", b"a", push=False)
    first.shared.checkpoint(other)
    assert first.shared.usage["pushed"] == 1


def test_keys_do_not_leave_the_workspace(bucket):
    _, _, machine = bucket
    first = machine(1)
    with pytest.raises(ConfigError, match="keys must lead into the workspace"):
        first.shared._path("runs/../../outside")


def test_settings_name_a_bucket_or_a_folder(tmp_path):
    found = Settings.from_env({"BINCOUNT_WORKSPACE": "s3://bins/prefix/", "BINCOUNT_CACHE": str(tmp_path)})
    assert found.remote == "s3://bins/prefix"
    assert found.workspace.parent == tmp_path
    assert found.environment()["BINCOUNT_WORKSPACE"] == "s3://bins/prefix"
    assert Settings.from_env({"BINCOUNT_WORKSPACE": str(tmp_path)}).remote is None
    with pytest.raises(ConfigError, match="BINCOUNT_CACHE_GB: must be a number > 0, got 'much'"):
        Settings.from_env({"BINCOUNT_CACHE_GB": "much"})


def test_a_renewal_that_fails_ends_nothing_before_the_lease_does(bucket, short_leases, monkeypatch, caplog):
    _, _, machine = bucket
    first, tries = machine(1), []

    def denied(self, *args):
        tries.append(time.monotonic())
        raise ConfigError("denied")

    with first.shared.lock(first.root / "plan.lock", "plan"):
        monkeypatch.setattr(lease.Lease, "_write", denied)
        time.sleep(0.6)
        first.write("runs/1/note.json", b"in time")
        time.sleep(0.6)
        with pytest.raises(ConfigError, match="denied"):
            first.write("runs/1/late.json", b"late")
    assert len(tries) >= 3
    assert "plan: the lease could not be renewed: denied" in caplog.text
    assert machine(2).read("runs/1/note.json") == b"in time"


def test_who_leaves_does_not_wait_for_a_bucket_that_is_gone(bucket, short_leases, monkeypatch):
    import obstore

    _, _, machine = bucket
    first = machine(1)

    def gone(*args, **more):
        raise obstore.exceptions.GenericError("HTTP error: kind: Connect")

    with first.shared.lock(first.root / "plan.lock", "plan"):
        monkeypatch.setattr(obstore, "put", gone)
        time.sleep(0.5)
        left = time.monotonic()
    assert time.monotonic() - left < 2


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("403 Forbidden: <Code>AccessDenied</Code>", r"must be readable and writable, got access denied \(403 AccessD"),
        ("507 Insufficient Storage: <Code>XMinioStorageFull</Code>", r"must have room, got 507 XMinioStorageFull"),
        (
            "403 Forbidden: <Code>QuotaExceeded</Code>",
            r"must have room, got 403 QuotaExceeded. Free some room or raise",
        ),
    ],
)
def test_a_refused_write_says_what_to_do(bucket, monkeypatch, answer, told):
    import obstore

    _, _, machine = bucket
    first = machine(1)

    def refuse(*args, **more):
        raise obstore.exceptions.GenericError(f"Server returned non-2xx status code: {answer}")

    monkeypatch.setattr(obstore, "put", refuse)
    with pytest.raises(ConfigError, match=told):
        first.write("runs/1/note.json", b"x")


def test_the_patience_of_a_promotion_outlives_a_dead_holders_lease():
    assert lease.LEASE_S + 10 < champion._TIMEOUT_S
