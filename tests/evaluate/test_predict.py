"""Prediction of files, good ones and bad ones: each has an entry, and a bad one costs no other its answer."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bincount import cli
from bincount.dataset.ingest import collect
from bincount.dataset.manifest import Manifest
from bincount.errors import ConfigError
from bincount.evaluate.predict import predict
from bincount.reconcile.reconcile import reconcile
from bincount.store.interface import MAX_OBJECT_BYTES
from tests.bins import photo, saved, undecodable, write_bin, write_bins
from tests.reconcile.reconciled import read_lists, registered
from tests.stores import make_settings

ROOT = Path(__file__).parents[2]
BAD = {
    "absent.jpg": (None, "No such file or directory"),
    "empty.jpg": (b"", "photo is empty"),
    "text.jpg": (b"<html>Not Found</html>", "photo is no JPEG or PNG"),
    "cut.jpg": (photo(3)[:-40], "photo is cut short"),
    "damaged.jpg": (undecodable(photo(4)), "photo is damaged"),
    "large.jpg": (photo(5).ljust(MAX_OBJECT_BYTES + 1, b"\0"), "photo is too large"),
    "deep.png": (saved(kind="PNG", mode="I;16"), "photo is a PNG of a rare kind"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Settings and the URI of a registered model."""
    settings = make_settings(tmp_path_factory.mktemp("predicted"))
    return settings, registered(settings)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two good photos, every kind of bad file and a folder, beside each other."""
    monkeypatch.chdir(tmp_path)
    for name, data in {"a.jpg": photo(1), "c.png": saved(kind="PNG")}.items():
        (tmp_path / name).write_bytes(data)
    for name, (data, _) in BAD.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_a_bad_file_costs_no_other_its_answer(model, folder, caplog):
    settings, uri = model
    files = ["a.jpg", *BAD, "folder", "c.png", "a.jpg"]
    entries = predict(settings, files=files, model=uri)["predictions"]
    good = predict(settings, files=["a.jpg", "c.png"], model=uri)["predictions"]
    assert [entry["file"] for entry in entries] == files
    assert {entry["file"]: entry["error"] for entry in entries if "error" in entry} == {
        name: reason for name, (_, reason) in BAD.items()
    } | {"folder": "Is a directory"}
    answered = [entry for entry in entries if "error" not in entry]
    assert [entry["file"] for entry in answered] == ["a.jpg", "c.png", "a.jpg"]
    for entry, alone in zip(answered, [*good, good[0]], strict=True):
        assert entry["count"] == alone["count"]
        assert entry["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-4)
    named = [record.getMessage().split(":")[0] for record in caplog.records if record.name.endswith("predict")]
    assert sorted(named) == sorted([*BAD, "folder"])


def test_files_beyond_a_batch_keep_their_order(model, folder, monkeypatch):
    settings, uri = model
    monkeypatch.setattr("bincount.evaluate.predict._BATCH", 2)
    files = ["damaged.jpg", "a.jpg", "c.png", "damaged.jpg", "cut.jpg", "absent.jpg", "c.png"]
    entries = predict(settings, files=files, model=uri)["predictions"]
    assert [(entry["file"], "count" in entry) for entry in entries] == [(name, name in "a.jpg c.png") for name in files]


@pytest.mark.parametrize(("files", "code"), [(["a.jpg", "c.png"], 0), (["a.jpg", "cut.jpg"], 3), (["absent.jpg"], 3)])
def test_the_exit_code_says_whether_every_file_was_answered(model, folder, monkeypatch, capsys, files, code):
    settings, uri = model
    monkeypatch.setenv("BINCOUNT_WORKSPACE", str(settings.workspace))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", *files, "--model", uri])
    assert ended.value.code == code
    entries = json.loads(capsys.readouterr().out)["predictions"]
    assert [entry["file"] for entry in entries] == files
    assert ["error" in entry for entry in entries] == [name in BAD for name in files]


def test_a_name_that_is_no_utf_8_is_printed_as_json(model, folder, monkeypatch, capsys):
    settings, uri = model
    monkeypatch.setenv("BINCOUNT_WORKSPACE", str(settings.workspace))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
    name = os.fsdecode(b"b\xe4r.jpg")  # Latin-1
    (folder / name).write_bytes(photo(5))
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", name, "--model", uri])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["file"] == name


COUNTING = """
import sys
from pathlib import Path
from bincount.evaluate.evaluate import evaluate
from bincount.evaluate.predict import predict
from bincount.reconcile.reconcile import reconcile
from bincount.settings import Settings

workspace, tracking_uri, artifacts, model, source, out = sys.argv[1:]
settings = Settings(Path(workspace), tracking_uri, Path(artifacts))
(entry,) = predict(settings, files=[str(next(Path(source).glob("*/*.jpg")))], model=model)["predictions"]
assert "count" in entry
assert evaluate(settings, model=model, source=source)["bins"] == 100
reconcile(settings, source=source, model=model, out=out)
print(*({"tensorflow", "keras"} & set(sys.modules)))
"""


def test_counting_with_a_registered_model_loads_neither_tensorflow_nor_keras(model, tmp_path):
    settings, uri = model
    source = write_bins(tmp_path / "bins", 100)
    places = settings.workspace, settings.tracking_uri, settings.artifacts, uri, source, tmp_path / "out"
    command = [sys.executable, "-c", COUNTING, *map(str, places)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == ""
    assert (tmp_path / "out" / "report.html").exists()


def test_without_the_model_the_whole_fails(model, folder):
    with pytest.raises(ConfigError, match="must name a version, got none"):
        predict(model[0], files=["a.jpg", "cut.jpg"], model="models:/bincount@nobody")


ON_ITS_SIDE = Image.Exif()
ON_ITS_SIDE[0x0112] = 6
KINDS = {  # a file, and why it is refused or the size of what is shown
    "CMYK JPEG": (saved(mode="CMYK"), "photo is a JPEG of a rare kind"),
    "16-bit PNG": (saved(kind="PNG", mode="I;16"), "photo is a PNG of a rare kind"),
    "palette PNG": (saved(kind="PNG", mode="P"), (64, 48)),
    "RGBA PNG": (saved(kind="PNG", mode="RGBA"), (64, 48)),
    "grey JPEG": (saved(mode="L"), (64, 48)),
    "JPEG on its side": (saved(exif=ON_ITS_SIDE), (48, 64)),
    "PNG on its side": (saved(kind="PNG", exif=ON_ITS_SIDE), (48, 64)),
}


@pytest.fixture(scope="module")
def doors(model, tmp_path_factory):
    """Answers of ingest, reconcile and predict to each kind of file, by its name."""
    settings, uri = model
    source = write_bins(tmp_path_factory.mktemp("kinds"), 100)
    ids = {name: f"{70_000 + 100 * number}" for number, name in enumerate(KINDS)}
    for name, (data, _) in KINDS.items():
        write_bin(source, ids[name], recorded=2, image=data)
    digest = collect(settings, source=str(source), counts="1-5", max_rejected=1.0)["manifest"]
    ingested = {record.id: record for record in Manifest.read(settings.manifests, digest).records}
    with (settings.manifests / f"{digest}.rejected.csv").open() as file:
        rejected = {row["id"]: row["reason"] for row in csv.DictReader(file)}
    reconcile(settings, source=str(source), model=uri, out=str(source / "out"))
    lines = {line["id"]: line for line in read_lists(source / "out")[0]}
    files = [str(source / "bin-images" / f"{bin_id}.jpg") for bin_id in ids.values()]
    entries = dict(zip(ids, predict(settings, files=files, model=uri)["predictions"], strict=True))
    return {
        name: (ingested.get(bin_id) or rejected[bin_id], lines[bin_id], entries[name]) for name, bin_id in ids.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_door_gives_a_kind_of_file_the_same_answer(doors, kind):
    expected = KINDS[kind][1]
    ingested, line, entry = doors[kind]
    if isinstance(expected, str):
        assert (ingested, line["reason"], entry["error"]) == (expected,) * 3
    else:
        assert (ingested.width_px, ingested.height_px) == expected
        assert line["predicted"] == entry["count"]
        assert entry["probabilities"] == pytest.approx(line["probabilities"], abs=1e-4)
