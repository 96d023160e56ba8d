"""evaluate, register and promote on a real tracking store, a tiny model and drawn bins."""

import dataclasses
import json

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from bincount.config import GateLimits
from bincount.dataset.manifest import Manifest
from bincount.errors import ConfigError, DataError, StoreError
from bincount.evaluate.evaluate import evaluate, read_evaluation
from bincount.evaluate.plots import FIGURES
from bincount.evaluate.served_log import SCHEMA, SHADOW
from bincount.registry.golden import read_golden
from bincount.registry.promotion import promote
from bincount.registry.register import register
from bincount.tracking import model_registry, runs
from bincount.tracking.client import mlflow_client
from tests.evaluate.trained import as_if_served, cheat, open_trained_run, write_manifest
from tests.processes import free_ports
from tests.stores import make_settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return make_settings(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def manifest(settings):
    return write_manifest(settings)


@pytest.fixture(scope="module")
def evaluated(settings, manifest):
    """A run for tests that leave it as it is."""
    return evaluated_run(settings, manifest)


@pytest.fixture
def run_id(settings, manifest):
    return evaluated_run(settings, manifest)


def evaluated_run(settings, manifest):
    run_id = open_trained_run(settings, manifest)
    for epoch in range(3):
        curve = {"train/loss": 1.7 - epoch / 10, "train/val_nll": 1.6 - epoch / 10}
        runs.log_metrics(settings, run_id, curve, step=epoch)
    evaluate(settings, run_id=run_id)
    return run_id


def artifacts_of(settings, run_id):
    place = settings.artifacts / run_id / "artifacts"
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def test_evaluate_scores_each_unseen_test_bin_once(settings, manifest, evaluated):
    metrics = evaluate(settings, run_id=evaluated)["metrics"]  # the second time: from what is there
    test = Manifest.read(settings.manifests, manifest).part("test")
    evaluation, ids, probabilities = read_evaluation(settings, evaluated)
    assert sorted(ids) == sorted(record.id for record in test)
    assert metrics["bins"] == len(test) == len(probabilities)
    assert {"exact", "within_one", "mae", "rmse", "nll", "rps", "ece", "largest_class", "prior_nll"} <= metrics.keys()
    assert json.loads(json.dumps(metrics)) == metrics == evaluation["metrics"]
    assert sum(row["bins"] for row in evaluation["per_count"]) == len(test)
    assert set(evaluation["slices"]) == {"orientation", "size", "products", "sharpness"}
    assert evaluation["curves"]["train/val_nll"] == {"0": 1.6, "1": 1.5, "2": pytest.approx(1.4)}
    pictures = {f"{name}.png" for name in FIGURES}
    assert {
        f"evaluation/{name}" for name in {"evaluation.json", "probabilities.npz", "card.md", "card.html"} | pictures
    } <= artifacts_of(settings, evaluated)
    card = (settings.run(evaluated) / "evaluation" / "card.md").read_text()
    assert all(f"({name})" in card for name in pictures)
    with mlflow_client(settings, "test") as client:
        assert client.get_run(evaluated).data.metrics["test_nll"] == pytest.approx(metrics["nll"])


def test_evaluate_reads_each_test_photo_once(settings, manifest, monkeypatch):
    from bincount.dataset import shards

    read, decode = [], shards.decode_example

    def counting(data):
        example = decode(data)
        read.append(example["id"].decode())
        return example

    monkeypatch.setattr(shards, "decode_example", counting)
    evaluate(settings, run_id=open_trained_run(settings, manifest))
    test = Manifest.read(settings.manifests, manifest).part("test")
    again = len(read) - len(test)
    assert set(read) == {record.id for record in test}
    assert 0 < again <= 12  # those that are shown in a picture


def test_what_evaluate_says_is_what_the_model_says(settings, manifest, evaluated):
    from bincount.dataset.shards import photos_of
    from bincount.learn.predictor import Predictor

    _, ids, probabilities = read_evaluation(settings, evaluated)
    read = Manifest.read(settings.manifests, manifest)
    last = next(record for record in read.records if record.id == ids[-1])
    alone = Predictor(settings.run(evaluated) / "model").predict(list(photos_of(settings, read, [last])))
    assert alone[0] == pytest.approx(probabilities[-1], abs=1e-5)


def test_another_model_is_evaluated_anew(settings, manifest, run_id):
    from tests.tiny import write_model

    before = evaluate(settings, run_id=run_id)
    write_model(settings.run(run_id) / "model", manifest=manifest, seed=5)
    with pytest.raises(ConfigError, match=r"its evaluation must be of model .* Run `bincount evaluate` again"):
        register(settings, run_id=run_id)
    assert evaluate(settings, run_id=run_id) != before


def test_siblings_of_learned_bins_are_set_aside(settings):
    """A group across the border of a part is in both of them."""
    read = Manifest.read(settings.manifests, write_manifest(settings))
    border = next(
        (one.id, two.id)
        for one, two in zip(read.records, read.records[1:], strict=False)
        if one.part == "train" and two.part == "test"
    )
    run_id = open_trained_run(settings, write_manifest(settings, siblings=[border]))
    assert evaluate(settings, run_id=run_id)["metrics"]["set_aside"] == 1
    assert border[1] not in read_evaluation(settings, run_id)[1]


def test_nothing_is_published_when_a_shard_is_damaged(settings, manifest):
    run_id = open_trained_run(settings, manifest)
    shard = settings.shards / Manifest.read(settings.manifests, manifest).shards[0].name
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(DataError, match="a whole record must start at byte"):
            evaluate(settings, run_id=run_id)
    finally:
        shard.write_bytes(whole)
    assert not (settings.run(run_id) / "evaluation").exists()
    assert not artifacts_of(settings, run_id)


def test_steps_out_of_order_say_what_is_missing(settings, manifest):
    with pytest.raises(ConfigError, match=r"must have a trained model, got none. Run `bincount train` first"):
        evaluate(settings, run_id=runs.open_run(settings))
    trained = open_trained_run(settings, manifest)
    with pytest.raises(DataError, match=r"must be evaluated, got no evaluation.json. Run `bincount evaluate` first"):
        register(settings, run_id=trained)
    with pytest.raises(ConfigError, match="version '999' of bincount: MLflow must accept it"):
        promote(settings, model_version="999")


@pytest.mark.parametrize("name", ["evaluation.json", "probabilities.npz"])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_an_evaluation_that_was_cut_is_not_registered(settings, evaluated, name, kept):
    path = settings.run(evaluated) / "evaluation" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    try:
        with pytest.raises(DataError, match=r"must be evaluated, got a damaged file: .*Run `bincount evaluate` first"):
            read_evaluation(settings, evaluated)
    finally:
        path.write_bytes(content)


def test_a_manifest_without_test_bins_is_refused(settings):
    few = write_manifest(settings, ids=range(20, 30))
    assert not Manifest.read(settings.manifests, few).part("test")
    with pytest.raises(DataError, match=r"must have test bins to score, got none of 10. Ingest more"):
        evaluate(settings, run_id=open_trained_run(settings, few))


def test_register_twice_is_one_version(settings, manifest, run_id):
    answer = register(settings, run_id=run_id)
    assert register(settings, run_id=run_id) == answer
    assert answer["model_uri"] == f"models:/bincount/{answer['model_version']}"
    version = model_registry.version_of(settings, answer["model_version"])
    assert version.tags["bincount.manifest"] == manifest
    assert version.tags["bincount.git_commit"]
    assert version.tags["bincount.counts"] == "1-5"
    assert "CC BY-NC-SA 3.0 US" in version.description
    assert "No better than a baseline" in version.description
    assert model_registry.alias(settings, "challenger") == answer["model_version"]


def test_golden_bins_are_kept_and_come_back_from_mlflow(settings, run_id):
    import shutil

    register(settings, run_id=run_id)
    golden = read_golden(settings, run_id)
    assert len(golden) == 5
    assert golden[0][1].startswith(b"\xff\xd8")
    folder = settings.run(run_id) / "golden"
    for there in (True, False):  # a leftover without answers, and nothing at all
        (folder / "answers.json").unlink() if there else shutil.rmtree(folder)
        assert read_golden(settings, run_id) == golden
        assert not list(folder.parent.glob(".golden-*"))
    elsewhere = dataclasses.replace(settings, workspace=settings.workspace / "another")
    assert read_golden(elsewhere, run_id) == golden


@pytest.fixture
def fresh(tmp_path):
    """A registry without a champion, the steps' own, and runs that know some bins."""
    settings = make_settings(tmp_path)
    digest = write_manifest(settings)

    def run(ids_right, **model):
        run_id = open_trained_run(settings, digest, **model)
        evaluate(settings, run_id=run_id)
        version = register(settings, run_id=run_id)["model_version"]
        cheat(settings, run_id, ids_right)
        as_if_served(settings, version)
        return version

    return settings, run


def test_only_what_beats_the_baselines_becomes_champion(fresh):
    settings, run = fresh
    bad = run(lambda record: False)
    answer = promote(settings, model_version=bad)
    assert answer["promoted"] is False
    assert answer["reason"].startswith("Not promoted: it counts 0.0%")
    assert model_registry.alias(settings, "champion") is None

    good = run(lambda record: True, seed=1)
    answer = promote(settings, model_version=good)
    assert answer["promoted"] is True
    assert promote(settings, model_version=good) == answer
    assert model_registry.alias(settings, "champion") == good
    assert model_registry.alias(settings, "challenger") is None
    assert model_registry.alias(settings, "previous") is None
    version = model_registry.version_of(settings, good)
    assert version.tags["bincount.reason"] == answer["reason"]
    assert version.description.count("## Gate") == 1
    assert answer["reason"] in version.description
    with mlflow_client(settings, "test") as client:
        assert client.get_run(version.run_id).info.status == "FINISHED"

    # With a champion, the earlier refusal is asked anew, and the champion is scored on the same bins.
    again = promote(settings, model_version=bad)
    assert again["promoted"] is False
    assert f"champion version {good}" in json.dumps(model_registry.version_of(settings, bad).tags)
    assert model_registry.version_of(settings, bad).description.count("## Gate") == 1


def test_a_better_challenger_takes_the_champions_place(fresh):
    settings, run = fresh
    first = run(lambda record: True)
    promote(settings, model_version=first)
    # The champion's own model is random: the gate scores it anew on the challenger's bins.
    second = run(lambda record: True, seed=1)
    answer = promote(settings, model_version=second)
    assert answer["promoted"], answer
    assert answer["reason"].endswith(f"and it is no worse than champion version {first}.")
    assert model_registry.alias(settings, "champion") == second
    assert model_registry.alias(settings, "previous") == first


def test_a_challenger_waits_until_it_has_answered_enough_photos_as_shadow(fresh, tmp_path):
    settings, run = fresh
    first = run(lambda record: True)
    promote(settings, model_version=first)
    second = run(lambda record: True, seed=1)
    strict = dataclasses.replace(settings, gate=GateLimits(shadow_photos=2, shadow_log=str(tmp_path / "log")))
    with pytest.raises(ConfigError, match="log: must be a folder of `bincount serve --log`, got "):
        promote(strict, model_version=second)
    write_rows(tmp_path / "log", "0", second, ["a", "a"])
    write_rows(tmp_path / "log", "1", first, ["b"])
    answer = promote(strict, model_version=second)
    assert answer == {
        "promoted": False,
        "reason": "Not promoted: it has answered only 1 photos as shadow, where at least 2 are wanted.",
    }
    write_rows(tmp_path / "log", "2", second, ["b"])
    assert promote(strict, model_version=second)["promoted"]


def write_rows(folder, name, version, digests):
    """A file of a log in which a version answered photos as shadow."""
    folder.mkdir(exist_ok=True)
    row = {**dict.fromkeys(SCHEMA.names), "role": SHADOW, "version": version, "status": 200}
    rows = [row | {"digest": digest} for digest in digests]
    parquet.write_table(pyarrow.Table.from_pylist(rows, SCHEMA), folder / f"served-{name}.parquet")


def test_a_champion_of_other_counts_is_compared_on_what_both_can_count(fresh):
    settings, run = fresh
    first = run(lambda record: True, counts="0-5+")
    promote(settings, model_version=first)
    second = run(lambda record: True, seed=1)
    answer = promote(settings, model_version=second)
    assert answer["promoted"], answer


def test_predictions_are_saved_without_pickle(settings, evaluated):
    with np.load(settings.run(evaluated) / "evaluation" / "probabilities.npz", allow_pickle=False) as saved:
        assert saved["probabilities"].dtype == np.float32
        assert saved["ids"].dtype.kind == "U"


def test_verify_serving_says_what_it_saw(settings, run_id):

    from bincount.registry.serving_check import verify_serving

    version = register(settings, run_id=run_id)["model_version"]
    with pytest.raises(ConfigError, match="BINCOUNT_SERVING_URL: must name the model server"):
        verify_serving(settings, model_version=version)
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    nobody = dataclasses.replace(settings, serving_url=url)
    with pytest.raises(StoreError, match=f"{url}/invocations: must serve version {version} within 1 s, got: .*refused"):
        verify_serving(nobody, model_version=version, timeout_s=1)


def test_register_keeps_what_the_calibration_part_says_with_the_model(settings, manifest, run_id, tmp_path):
    """It is scored once, served with the model, and its coverage of the test part stands in the run."""
    from bincount.evaluate.batch_inference import digest_of_model
    from bincount.mismatch.calibration import Calibration

    digest = digest_of_model(settings.run(run_id) / "model")
    version = register(settings, run_id=run_id)["model_version"]
    kept = Calibration.read(model_registry.fetch_model(settings, version, tmp_path))
    bins = Manifest.read(settings.manifests, manifest)
    assert sum(len(group) for groups in kept.scores for group in groups) == len(bins.part("calibration"))
    assert kept.pooled() == ["1", "2", "3", "4", "5"]  # 40 bins: eight of each count
    assert digest_of_model(settings.run(run_id) / "model") == digest
    with mlflow_client(settings, "test") as client:
        metrics = client.get_run(run_id).data.metrics
    assert 0.8 < metrics["test_coverage"] <= 1
    assert 1 <= metrics["test_set_size"] <= 5


def test_a_version_carries_what_its_test_photos_were_like(settings, run_id, tmp_path):
    """One registered before there was a reference gets none by itself; evaluated again it is registered anew."""
    from bincount.evaluate.drift_baseline import FILE, DriftBaseline

    folder = settings.run(run_id) / "model"
    before = register(settings, run_id=run_id)["model_version"]
    kept = DriftBaseline.read(model_registry.fetch_model(settings, before, tmp_path))
    assert {each.number for each in kept.histograms.values()} == {len(read_evaluation(settings, run_id)[1])}
    assert len(kept.center) == 4
    assert kept.histograms["recorded"].mean == pytest.approx(3, abs=0.5)
    (folder / FILE).unlink()
    assert register(settings, run_id=run_id)["model_version"] == before
    with mlflow_client(settings, "test") as client:
        client.delete_model_version_tag(model_registry.MODEL, before, "bincount.reference")
    evaluate(settings, run_id=run_id)
    again = DriftBaseline.read(folder)
    assert again.histograms == kept.histograms
    after = register(settings, run_id=run_id)["model_version"]
    assert after != before
    assert register(settings, run_id=run_id)["model_version"] == after


def test_evaluate_says_how_well_wrong_records_are_found(settings, evaluated):
    evaluation, _, _ = read_evaluation(settings, evaluated)
    kinds = set(evaluation["variance"]["kinds"])
    assert kinds == {"one", "two", "mixed", "any"}  # no two photos of one bin among these
    for kind, row in evaluation["variance"]["kinds"].items():
        assert evaluation["metrics"][f"variance_auroc_{kind}"] == row["model"]["auroc"]
        assert set(row["model"]["at"]) == {"0.01", "0.02", "0.05", "0.1", "0.2"}
    card = (settings.run(evaluated) / "evaluation" / "card.md").read_text()
    assert "## Finding wrong records" in card
    assert "| one item off | " in card
