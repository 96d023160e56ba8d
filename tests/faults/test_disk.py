"""A full disk and a read-only workspace: each step says so, publishes nothing by halves and goes on afterwards."""

import dataclasses
import json

import pytest

from bincount import cli
from bincount.dataset import job
from bincount.dataset.ingest import ingest
from bincount.errors import BincountError, StoreError
from bincount.reconcile.reconcile import reconcile
from bincount.tracking import model_registry, runs
from tests.bins import write_bins as write_source
from tests.faults.small_disk import small_disk
from tests.learn.bins import write_bins
from tests.learn.featured import open_prepared_run
from tests.reconcile.reconciled import registered
from tests.stores import make_settings

# KerasTuner 1.4.8 names its threads as Python 2 did.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(r"ignore:(currentThread|getName)\(\) is deprecated:DeprecationWarning"),
]
FAULTS = ["full", "read-only"]
ONLY_FULL = pytest.mark.parametrize("broken", ["full"], indirect=True)
ONLY_READ_ONLY = pytest.mark.parametrize("broken", ["read-only"], indirect=True)
TOLD = {"full": "No space left on device", "read-only": "Read-only file system"}


class Broken:
    """A workspace on a disk of its own, and the command run on it while the disk takes nothing."""

    def __init__(self, disk, settings, fault, capsys):
        self.disk, self.settings, self.fault, self.capsys = disk, settings, fault, capsys

    def files(self):
        """What lies there, finished or not."""
        paths = self.settings.workspace.rglob("*")
        return {str(path.relative_to(self.settings.workspace)) for path in paths if path.is_file()}

    def run(self, *words):
        """The command's exit status, answer and messages."""
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        said = self.capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    def refused_then_done(self, *words, published=None):
        """Runs a verb on the broken disk, then on the mended one. Returns its answer."""
        before = self.files()
        self.disk.fill() if self.fault == "full" else self.disk.make_read_only()
        code, answer, told = self.run(*words)
        after = self.files()
        self.disk.mend()
        assert (code, answer) == (2, ""), told
        last = told.strip().splitlines()[-1]
        assert f"must be writable and have room, got '{TOLD[self.fault]}'. Free some room or change its rights" in last
        assert "Traceback" not in told
        if published:
            assert not {name for name in after - before if published in name}
        code, answer, told = self.run(*words)
        assert code == 0, told
        return json.loads(answer)


@pytest.fixture(params=FAULTS)
def broken(request, tmp_path, monkeypatch, capsys):
    with small_disk(tmp_path / "disk", size_mb=48) as disk:
        settings = dataclasses.replace(make_settings(tmp_path), workspace=disk.folder / "data")
        monkeypatch.setenv("BINCOUNT_WORKSPACE", str(settings.workspace))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
        yield Broken(disk, settings, request.param, capsys)


def test_ingest(broken, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "_SPARE_BYTES", -(10**9))  # else it is refused before the disk is
    source = str(write_source(tmp_path / "bins", 300))
    broken.settings.workspace.mkdir()
    answer = broken.refused_then_done("ingest", f"--source={source}", published="manifests/")
    assert answer["bins"] > 200


@ONLY_FULL  # no disk becomes read-only while a file is open for writing
def test_ingest_in_the_middle_of_a_shard(broken, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "_SPARE_BYTES", -(10**9))
    source = str(write_source(tmp_path / "bins", 300))
    broken.settings.workspace.mkdir()
    broken.disk.fill(but_bytes=400_000)  # the journal has room and the shard has not
    with pytest.raises(BincountError, match="must be writable and have room, got 'No space left on device'"):
        ingest(broken.settings, source=source)
    assert not list(broken.settings.workspace.glob("manifests/*.jsonl"))
    broken.disk.mend()
    assert ingest(broken.settings, source=source)["bins"] > 200


def test_prepare_to_register(broken):
    settings = broken.settings
    manifest, run_id = write_bins(settings.workspace, bins=60), runs.open_run(settings)
    network = ("--backbone=MobileNetV3Small", "--weights=none", "--image-px=32")
    broken.refused_then_done("prepare", f"--run-id={run_id}", f"--manifest={manifest}", *network, published=".npy")

    run_id, prepared = open_prepared_run(settings, bins=400)
    where = (f"--run-id={run_id}", f"--features={prepared}")
    broken.refused_then_done("tune", *where, "--trials=2", "--max-epochs=5", published="best.json")
    broken.refused_then_done("train", *where, published="/model/")
    broken.refused_then_done("evaluate", f"--run-id={run_id}", published="/evaluation/")
    answer = broken.refused_then_done("register", f"--run-id={run_id}")
    # Not even a version without a model: nothing was registered before.
    assert answer["model_version"] == "1"
    assert [one.version for one in model_registry.versions_of_run(settings, run_id)] == ["1"]
    assert model_registry.alias(settings, model_registry.CHAMPION) is None


def test_reconcile(broken, tmp_path):
    model = registered(broken.settings)
    source = str(write_source(tmp_path / "bins", 30))
    words = ("reconcile", f"--source={source}", f"--model={model}", f"--out={broken.disk.folder / 'out'}")
    broken.disk.fill() if broken.fault == "full" else broken.disk.make_read_only()
    code, answer, told = broken.run(*words)
    broken.disk.mend()
    assert (code, answer) in ((2, ""), (4, "")), told
    assert "must be" in told.strip().splitlines()[-1]
    assert "Traceback" not in told
    assert not (broken.disk.folder / "out" / "summary.json").exists()
    code, answer, told = broken.run(*words)
    assert code == 0, told
    assert json.loads(answer)["bins"] == 30


@ONLY_READ_ONLY  # its lock is an empty file, for which a full disk has room
def test_promote(broken):
    """Who becomes champion is kept in MLflow; the workspace holds the lock."""
    version = registered(broken.settings).rsplit("/", 1)[1]
    (broken.settings.workspace / "champion.lock").unlink(missing_ok=True)
    words = ("promote", version, "--force", "--reason=a test")
    answer = broken.refused_then_done(*words)
    assert answer["promoted"]
    assert model_registry.alias(broken.settings, model_registry.CHAMPION) == version


def test_the_tracking_database(tmp_path):
    """MLflow's own disk: a full one is named, and the step goes on once there is room."""
    with small_disk(tmp_path / "disk", size_mb=8) as disk:
        settings = dataclasses.replace(make_settings(disk.folder), workspace=tmp_path / "data")
        run_id = runs.open_run(settings)
        disk.fill()
        with pytest.raises(StoreError, match=r"must answer, got .*(disk is full|disk I/O error)") as caught:
            runs.log_tags(settings, run_id, {"text": "x" * 100_000})
        assert "Start it, or check its log" in str(caught.value)
        disk.mend()
        runs.log_tags(settings, run_id, {"text": "x"})
        assert runs.run_tags(settings, run_id)["text"] == "x"


@ONLY_FULL  # test_reconcile has the read-only one
def test_a_list_outlives_a_reconciliation_that_finds_no_room(broken, tmp_path):
    model = registered(broken.settings)
    source = str(write_source(tmp_path / "bins", 30))
    asked = {"source": source, "model": model, "out": str(tmp_path / "out")}
    reconcile(broken.settings, **asked)
    before = (tmp_path / "out" / "worklist.csv").read_bytes()
    broken.disk.fill()
    with pytest.raises(BincountError):
        reconcile(broken.settings, **asked)
    broken.disk.mend()
    assert (tmp_path / "out" / "worklist.csv").read_bytes() == before, "the list from before stays as it was"
