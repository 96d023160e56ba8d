"""The model's card: what is said, and that nothing from outside is markup."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from bincount.config import GateLimits
from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.evaluate.count_metrics import evaluate_predictions
from bincount.evaluate.model_card import Picture, card_of, summary_of, to_html, to_markdown


def evaluation_of(answers, **facts):
    counts = Counts.parse("1-5")
    records = [
        Record(f"{number:05d}", f"{number:05d}", number % 5 + 1, "test", 1, 300, 200, 1000, "", 0, 0)
        for number in range(100)
    ]
    probabilities = np.full((100, 5), 0.01)
    probabilities[np.arange(100), answers] = 0.96
    evaluation = evaluate_predictions(probabilities, records, counts)
    evaluation["metrics"]["set_aside"] = 2
    return evaluation | {
        "facts": {"counts": "1-5", "backbone": "ResNet50", "weights": "none", "config": {"fine_tune_epochs": 0}}
        | facts,
        "source": "s3://aft-vbi-pds",
        "counts": list(counts.names),
        "parts": {"train": 700, "test": 102},
        "curves": {"train/val_nll": {0: 1.5, 1: 1.4}},
    }


RIGHT, SAME = np.arange(100) % 5, np.zeros(100, dtype=int)


@pytest.mark.parametrize(
    ("answers", "verdict"), [(RIGHT, "Better than the baselines: "), (SAME, "No better than a baseline: ")]
)
def test_the_verdict_is_said_first_and_plainly(answers, verdict):
    card = to_markdown(card_of(evaluation_of(answers), "0a1b", GateLimits()))
    assert card.splitlines()[2].startswith(verdict)
    assert "CC BY-NC-SA 3.0 US" in card
    assert "2 test bins were set aside" in card


def test_a_network_that_was_trained_whole_admits_what_chose_its_epoch():
    admission = "the calibration part also chose its best epoch"
    for epochs in (0, 4):
        card = to_markdown(card_of(evaluation_of(RIGHT, config={"fine_tune_epochs": epochs}), "0a1b", GateLimits()))
        assert (admission in card) is (epochs > 0)


def test_every_figure_has_its_interval_and_both_baselines():
    card = to_markdown(summary_of(evaluation_of(RIGHT), GateLimits()))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in card.splitlines() if line.startswith("|")]
    assert rows[0][1:] == ["value", "95 % interval", "always the largest class", "always the class prior"]
    assert len(rows) == 2 + 7
    assert all(value and " to " in interval for _, value, interval, _, _ in rows[2:])
    assert rows[2][3:] == ["20.0%", "20.0%"]
    assert rows[6][3:] == ["infinite", "1.609"]


def test_a_description_fits_mlflows_database():
    assert len(to_markdown(summary_of(evaluation_of(SAME), GateLimits()))) < 4000


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = set()

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        self.found.update(name for name, _ in attrs if name.startswith("on"))


def test_nothing_from_outside_is_markup(tmp_path):
    hostile = '<script>alert(1)</script><img src=x onerror=alert(2)> | `[x](javascript:1)`\n# big "'
    evaluation = evaluation_of(RIGHT, backbone=hostile, note=hostile)
    evaluation["source"] = hostile
    card = card_of(evaluation, hostile, GateLimits())
    for block in card:
        if isinstance(block, Picture):
            (tmp_path / block.name).write_bytes(b"\x89PNG")
    page = to_html(card, tmp_path)
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.found
    assert "onerror" not in tags.found
    text = to_markdown(card)
    assert "<" not in text
    assert "\\](javascript" in text
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    assert "\n# big" not in text
