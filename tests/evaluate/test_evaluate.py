"""`bincount evaluate --run-id`: what the evidence beside a photo adds, in the answer, on the card and in MLflow."""

from bincount.evaluate.evaluate import evaluate
from bincount.evaluate.pair_metrics import ERRORS
from bincount.tracking.client import mlflow_client
from tests.evaluate.trained import open_trained_run, write_manifest
from tests.stores import make_settings
from tests.tiny import write_change_head, write_contents_judge


def test_pairs_and_contents_are_in_answer_card_and_run(tmp_path):
    settings = make_settings(tmp_path)
    siblings = [(f"{number:05d}", f"{number + 1:05d}") for number in range(1, 400, 2)]
    manifest = write_manifest(settings, siblings=siblings, side=4.0)
    run_id = open_trained_run(settings, manifest, sharpness=4.0)
    write_change_head(settings.run(run_id) / "model")
    write_contents_judge(settings.run(run_id) / "model")
    answer = evaluate(settings, run_id=run_id)
    pairs, contents = answer["pairs"], answer["contents"]
    assert pairs["pairs"] == answer["metrics"]["bins"] / 2 >= 20
    for figures in (pairs, pairs["blind"], pairs["photo"]):
        for name in ("direction_auroc", "exact", "within_one", "nll", "rmse"):
            low, high = figures["intervals"][name]
            assert low <= figures[name] <= high, name
    assert set(pairs["variance"]) == set(ERRORS)
    assert contents["bins"] == answer["metrics"]["bins"]
    card = (settings.run(run_id) / "evaluation" / "card.md").read_text()
    assert f"{pairs['pairs']} pairs of test photos, one transaction apart; learned from 150 pairs." in card
    assert "a recorded move that did not take place is not noticed" in card
    section = card.partition("## Two photos of one bin")[2].partition("## ")[0]
    for kind in ERRORS.values():
        assert section.count(f"| {kind} |") == 3, "AUROC, and lift at 5 % and at 10 %"
    assert f"{contents['bins']} test bins whose products all have a size." in card
    with mlflow_client(settings, "test") as client:
        logged = client.get_run(run_id).data.metrics
    assert logged["test_pairs_exact_photo"] == pairs["photo"]["exact"]
    assert logged["test_pairs_auroc_swapped_pair"] == pairs["variance"]["swapped"]["pair"]
