"""Evaluation of a registered model on the bins of any folder, except those that it learned from."""

import dataclasses
import json
import shutil
import threading

import pytest
from PIL import Image

from bincount.dataset.manifest import Manifest
from bincount.errors import ConfigError, DataError
from bincount.evaluate.evaluate import evaluate
from bincount.registry.register import register
from tests.bins import photo, saved, undecodable, write_bin
from tests.evaluate.trained import open_trained_run, write_manifest
from tests.stores import make_settings

FIGURES = {"exact", "within_one", "mae", "rmse", "nll", "rps", "ece"}


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """Settings, the manifest a registered model learned from, and its URI."""
    settings = make_settings(tmp_path_factory.mktemp("judged"))
    manifest = write_manifest(settings)
    run_id = open_trained_run(settings, manifest)
    evaluate(settings, run_id=run_id)
    return settings, manifest, register(settings, run_id=run_id)["model_uri"]


def originals(folder, ids):
    for number in ids:
        write_bin(folder, f"{number:05d}", recorded=1 + number % 5)
    return folder


def test_every_bin_is_judged_once_beside_its_baselines(registered, tmp_path):
    settings, _, uri = registered
    source = originals(tmp_path, range(2000, 2400, 4))
    found = evaluate(settings, model=uri, source=str(source))
    assert found.keys() >= FIGURES | {"bins", "groups", "largest_class", "prior_nll", "model", "source", "intervals"}
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, allow_nan=False))
    assert (found["bins"], found["groups"], found["set_aside"]) == (100, 100, {})
    assert (found["model"], found["learned_from"]) == (uri, "known")
    assert found["largest_class"] == pytest.approx(0.2)
    assert all(set(found["baselines"][name]) == FIGURES for name in ("largest_class", "class_prior"))
    assert all(low <= found[name] <= high for name in FIGURES - {"ece"} for low, high in [found["intervals"][name]])
    assert sum(row["bins"] for row in found["per_count"]) == 100
    assert sum(row["bins"] for row in found["slices"]["sharpness"]) == 100
    assert found["coverage"][-1]["exact"] == pytest.approx(found["exact"])
    assert not list(settings.ingests.glob("*"))


def test_it_says_what_prediction_bin_by_bin_says(registered, tmp_path):
    from bincount.evaluate.predict import predict

    settings, _, uri = registered
    source = originals(tmp_path, range(3000, 3100))
    photos = [str(source / "bin-images" / f"{number:05d}.jpg") for number in range(3000, 3100)]
    answers = predict(settings, files=photos, model=uri)["predictions"]
    right = [answer["count"] == 1 + number % 5 for answer, number in zip(answers, range(3000, 3100), strict=True)]
    assert evaluate(settings, model=uri, source=str(source))["exact"] == pytest.approx(sum(right) / 100)


def test_hostile_photos_and_metadata_are_set_aside_and_counted(registered, tmp_path):
    settings, _, uri = registered
    source = originals(tmp_path, range(2000, 2080, 2))
    images, metadata = source / "bin-images", source / "metadata"
    whole = photo(7, size=(300, 200))
    (images / "02000.jpg").write_bytes(b"")
    (images / "02002.jpg").write_bytes(saved(kind="PNG", mode="I;16"))
    (images / "02004.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "02006.jpg").write_bytes(b"<html>not here</html>")
    Image.new("L", (6000, 6000)).save(images / "02008.jpg")  # small, whole, and more than is ever decoded
    (images / "02010.jpg").unlink()
    (metadata / "02012.json").write_bytes(b"{")
    (metadata / "02014.json").unlink()
    write_bin(source, "02016", recorded=40)
    (images / "02018.jpg").write_bytes(undecodable(whole))
    found = evaluate(settings, model=uri, source=str(source))
    assert found["bins"] == 40 - 10
    assert found["set_aside"] == {
        "photo is missing": 1,
        "photo is empty": 1,
        "photo is a PNG of a rare kind": 1,
        "photo is cut short": 1,
        "photo is no JPEG or PNG": 1,
        "photo has too many pixels": 1,
        "photo is damaged": 1,
        "metadata is missing": 1,
        "metadata is no JSON": 1,
        "its count is none of 1-5": 1,
    }


def test_what_the_model_learned_from_is_set_aside(registered, tmp_path):
    """A copy of the bucket it learned from, under another name: same ids, same records."""
    settings, manifest, uri = registered
    records = Manifest.read(settings.manifests, manifest).records
    for record in records[::3]:
        write_bin(
            tmp_path, record.id, recorded=record.recorded, skus=[f"{record.id}-{n}" for n in range(record.n_skus)]
        )
    found = evaluate(settings, model=uri, source=str(tmp_path))
    learned = sum(record.part != "test" for record in records[::3])
    assert found["set_aside"]["the model learned from it"] == learned
    assert found["bins"] + sum(found["set_aside"].values()) == len(records[::3])
    # At a part's border the neighbour that was learned from is not there to be looked at.
    assert 0 < found["set_aside"].get("the model learned from a sibling photo", 0) <= 6


def test_ids_of_another_bucket_mean_other_bins(registered, tmp_path):
    settings, _, uri = registered
    for number in range(1, 61):
        write_bin(tmp_path, f"{number:05d}", recorded=1 + (number + 2) % 5)
    found = evaluate(settings, model=uri, source=str(tmp_path))
    assert (found["bins"], found["set_aside"]) == (60, {})


def test_without_the_manifest_the_parts_tell_in_the_bucket_it_learned_from(registered, tmp_path):
    from bincount.dataset.split import part_of
    from bincount.tracking import model_registry

    settings, manifest, uri = registered
    source = originals(tmp_path, range(1, 201))
    here = settings.manifests / f"{manifest}.jsonl"
    kept = here.read_bytes()
    here.unlink()
    try:
        assert evaluate(settings, model=uri, source=str(source))["learned_from"] == "unknown"
        model_registry.describe(settings, uri.rsplit("/", 1)[1], tags={"bincount.source": str(source)})
        found = evaluate(settings, model=uri, source=str(source))
    finally:
        here.write_bytes(kept)
        model_registry.describe(settings, uri.rsplit("/", 1)[1], tags={"bincount.source": "s3://aft-vbi-pds"})
    test = sum(part_of(f"{number:05d}") == "test" for number in range(1, 201))
    assert (found["learned_from"], found["bins"]) == ("known", test)


def test_ids_counts_and_limit_choose(registered, tmp_path):
    settings, _, uri = registered
    source = originals(tmp_path, range(2000, 2050))
    (tmp_path / "ids.txt").write_text("02001\n02003\n02005\n02007\n")
    assert evaluate(settings, model=uri, source=str(source), ids=str(tmp_path / "ids.txt"))["bins"] == 4
    narrow = evaluate(settings, model=uri, source=str(source), counts="2-3")
    assert narrow["bins"] == 20
    assert narrow["set_aside"] == {"its count is none of 2-3": 30}
    assert [row["bins"] for row in narrow["per_count"]] == [0, 10, 10, 0, 0]
    drawn = evaluate(settings, model=uri, source=str(source), limit=7)
    assert drawn["bins"] == 7
    assert evaluate(settings, model=uri, source=str(source), limit=7) == drawn


def test_the_same_bins_from_a_bucket_give_the_same_answer(registered, tmp_path):
    from bincount.local.embedded_s3 import open_bucket

    settings, _, uri = registered
    source = originals(tmp_path, range(2000, 2040))
    server = open_bucket(source, port=0, bucket="to-evaluate")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        there = dataclasses.replace(settings, buckets={"to-evaluate": f"http://127.0.0.1:{server.port}"})
        bucket = evaluate(there, model=uri, source="s3://to-evaluate")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    folder = evaluate(settings, model=uri, source=str(source))
    assert bucket | {"source": ""} == folder | {"source": ""}


def test_what_is_wrong_is_said(registered, tmp_path):
    settings, _, uri = registered
    with pytest.raises(ConfigError, match="source: must be a folder or s3://BUCKET, got '/no/such'"):
        evaluate(settings, model=uri, source="/no/such")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"must hold bin-images/<id>.jpg and metadata/<id>.json"):
        evaluate(settings, model=uri, source=str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="model: must be models:/bincount/VERSION"):
        evaluate(settings, model="runs:/x/model", source=str(tmp_path))
    for given in ({}, {"model": uri}, {"source": str(tmp_path)}, {"run_id": "a", "model": uri, "source": "b"}):
        with pytest.raises(ConfigError, match="evaluate: must be given --run-id alone, or --model with --source, got"):
            evaluate(settings, **given)
    source = originals(tmp_path / "bins", range(2000, 2010))
    with pytest.raises(ConfigError, match="--counts: must be among the model's counts, 1-5, got '0-5'"):
        evaluate(settings, model=uri, source=str(source), counts="0-5")
    shutil.rmtree(source / "bin-images")
    with pytest.raises(DataError, match=r"must hold a bin to score, got none \(10 x photo is missing\)"):
        evaluate(settings, model=uri, source=str(source))
