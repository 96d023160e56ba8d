"""Features once a manifest, whatever happens in between; weights resolved once a run."""

import json

import numpy as np
import pytest

from bincount.dataset.manifest import Manifest
from bincount.errors import ConfigError, DataError
from bincount.learn.engine import BFLOAT16, FLOAT32, has_bfloat16
from bincount.learn.feature_cache import read_features
from bincount.learn.prepare import choice_of, prepare
from bincount.tracking import runs
from tests.learn.bins import write_bins
from tests.stores import make_settings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A prepared run: its settings, arguments and answer."""
    settings = make_settings(tmp_path_factory.mktemp("prepare"))
    manifest = write_bins(settings.workspace, bins=60)
    arguments = {"run_id": runs.open_run(settings), "manifest": manifest, "weights": "none", "image_px": 32}
    return settings, arguments, prepare(settings, **arguments)


def snapshot(settings):
    return {path: path.stat().st_mtime_ns for path in settings.features.rglob("*")}


def test_the_answer_names_features_of_every_bin(made):
    settings, arguments, answer = made
    assert answer["weights"] == "none"
    prepared = read_features(settings, answer["features"])
    manifest = Manifest.read(settings.manifests, arguments["manifest"])
    for part in ("train", "validation", "calibration", "test"):
        examples = prepared.examples(part)
        assert examples.features.shape == (len(manifest.part(part)), 2, 2 * (64 + 256 + 512))
        assert np.isfinite(examples.features).all()
    assert prepared.facts == {
        "manifest": arguments["manifest"],
        "backbone": "ResNet50",
        "weights": "none",
        "fit": "pad",
        "image_px": 32,
        "precision": BFLOAT16 if has_bfloat16() else FLOAT32,
    }
    assert runs.run_tags(settings, arguments["run_id"])["weights"] == "none"


def test_twice_is_once(made):
    settings, arguments, answer = made
    before = snapshot(settings)
    assert prepare(settings, **arguments) == answer
    after = snapshot(settings)
    changed = {path.name for path in after if before.get(path) != after[path]}
    assert changed <= {f"{arguments['manifest']}.json", answer["features"][:16]}  # the note, and its folder


def test_shares_are_the_features_of_one(made, tmp_path, caplog):
    whole, asked, answer = made
    settings = make_settings(tmp_path)
    manifest = Manifest.read(whole.manifests, write_bins(settings.workspace, bins=60))
    arguments = {**asked, "run_id": runs.open_run(settings)}
    for index, expected in ((1, [1]), (0, [0, 1, 2])):
        assert prepare(settings, **arguments, share=f"{index + 1}/2") == answer
        written = [path.stem for path in settings.features.glob("*/*.npy")]
        assert sorted(written) == sorted(manifest.shards[shard].sha256[:16] for shard in expected)
    caplog.set_level("INFO")
    assert prepare(settings, **arguments) == answer
    assert "nothing is left to compute" in caplog.text
    for path in whole.features.glob("*/*.npy"):
        np.testing.assert_array_equal(np.load(settings.features / path.relative_to(whole.features)), np.load(path))


def test_a_wrong_share_is_named_before_anything_is_done(made):
    settings, arguments, _ = made
    before = snapshot(settings)
    with pytest.raises(ConfigError, match="--share: must be such as 1/3, from 1/N to N/N, got '3/2'"):
        prepare(settings, **arguments, share="3/2")
    assert snapshot(settings) == before


def test_another_run_uses_the_same_features(made, caplog):
    settings, arguments, answer = made
    caplog.set_level("INFO")
    assert prepare(settings, **{**arguments, "run_id": runs.open_run(settings)}) == answer
    assert "nothing is left to compute" in caplog.text


@pytest.mark.parametrize("changed", [{"fit": "squash"}, {"seed": 1}])
def test_other_settings_are_other_features(made, changed):
    settings, arguments, answer = made
    arguments = {**arguments, "run_id": runs.open_run(settings), **changed}
    assert prepare(settings, **arguments)["features"] != answer["features"]


def test_the_backbone_is_chosen_once_a_run(made, monkeypatch):
    settings, arguments, _ = made
    arguments = {**arguments, "run_id": runs.open_run(settings), "weights": "auto", "backbone": "auto"}
    monkeypatch.setattr("bincount.learn.weights.answers", lambda url: False)
    monkeypatch.setattr("bincount.learn.weights._is_cached", lambda name: False)
    answer = prepare(settings, **arguments)
    assert (answer["backbone"], answer["weights"]) == ("EfficientNetLite0", "imagenet")

    tags = runs.run_tags(settings, arguments["run_id"])
    assert tags["backbone"] == "EfficientNetLite0"
    assert "neither cached" in tags["backbone_choice"]

    def asked_again(url):
        raise AssertionError("the run knows already")

    monkeypatch.setattr("bincount.learn.weights.answers", asked_again)
    assert prepare(settings, **arguments) == answer

    # A run that names the same network shares the features, but not the reason.
    named = {**arguments, "run_id": runs.open_run(settings), "backbone": "EfficientNetLite0"}
    for again in (named, arguments):
        assert prepare(settings, **again) == answer
        assert "backbone_choice" not in read_features(settings, answer["features"]).facts
    assert choice_of(settings, named["run_id"], answer["features"]) == {}
    assert "neither cached" in choice_of(settings, arguments["run_id"], answer["features"])["backbone_choice"]
    assert choice_of(settings, arguments["run_id"], made[2]["features"]) == {}


def test_damaged_features_are_computed_again_when_they_are_needed(made):
    settings, _, answer = made
    path = next((settings.features / answer["features"][:16]).glob("*.npy"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    read_features(settings, answer["features"])
    assert path.read_bytes() == content


def test_a_missing_shard_is_a_data_error(made):
    settings, arguments, _ = made
    manifest = Manifest.read(settings.manifests, arguments["manifest"])
    path = settings.shards / manifest.shards[0].name
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match="must exist, got no such file"):
        prepare(settings, **{**arguments, "run_id": runs.open_run(settings), "seed": 5})
    path.write_bytes(content)


@pytest.mark.parametrize("key", ["", "../../x", "0" * 16 + "-" + "0" * 16])
def test_a_key_that_is_none_is_refused(made, key):
    with pytest.raises(ConfigError, match="must be a key that prepare printed"):
        read_features(made[0], key)


def test_notes_are_json(made):
    settings, arguments, _ = made
    note = json.loads((settings.run(arguments["run_id"]) / "prepare.json").read_text())
    assert note["facts"]["weights"] == "none"


def test_a_precision_that_failed_the_check_is_not_used(made, monkeypatch):
    settings, arguments, _ = made
    arguments = {**arguments, "run_id": runs.open_run(settings), "image_px": 48}
    monkeypatch.setattr("bincount.learn.prepare.has_bfloat16", lambda: True)
    monkeypatch.setattr("bincount.learn.prepare.checked_precisions", lambda path: [FLOAT32])
    answer = prepare(settings, **arguments)
    assert read_features(settings, answer["features"]).facts["precision"] == FLOAT32
