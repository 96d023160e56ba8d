"""The gate's table of cases."""

import re
from dataclasses import replace

import pytest

from bincount.config import GateLimits
from bincount.evaluate.quality_checks import Scores
from bincount.registry.gate_rules import Comparison, decide

GOOD = Scores(
    bins=500,
    groups=400,
    exact=0.48,
    largest_class=0.22,
    nll=1.20,
    prior_nll=1.58,
    nll_difference=(-0.42, -0.33),
    ece=0.04,
    ece_by_chance=0.03,
)
LEVEL = Comparison(champion="3", bins=480, rps_difference=(-0.02, 0.005), recalls={"1": (0.6, 0.6), "2": (0.4, 0.48)})

CASES = [
    # what differs from a good model, the champion beside it, promoted, words in the reason
    ({}, None, True, "Promoted: it counts 48.0% of 500 test bins exactly"),
    ({"exact": 0.22}, None, False, "exactly, and always answering the largest class gets 22.0%"),
    ({"exact": 0.2201}, None, True, "where always answering the largest class gets 22.0%"),
    ({"nll_difference": (-0.1, 0.0)}, None, False, r"difference -0.100 to \+0.000, which must be below 0"),
    ({"nll_difference": (-0.1, -1e-9)}, None, True, "Promoted"),
    ({"nll": 1.6, "nll_difference": (0.01, 0.03)}, None, False, "its NLL is 1.600 to the class prior's 1.580"),
    ({"ece": 0.05}, None, True, "Promoted"),
    ({"ece": 0.051}, None, False, "calibration error is 0.051, where 0.05 is allowed and chance explains 0.030"),
    ({"ece": 0.08, "ece_by_chance": 0.08}, None, True, "Promoted"),  # of so few bins
    ({"ece": 0.081, "ece_by_chance": 0.08}, None, False, "calibration error is 0.081"),
    ({"groups": 19}, None, False, "only 19 groups of test bins, where at least 20"),
    ({}, LEVEL, True, "no worse than champion version 3"),
    ({}, replace(LEVEL, rps_difference=(-0.02, 0.01)), True, "no worse"),
    ({}, replace(LEVEL, rps_difference=(-0.02, 0.011)), False, r"\+0.011 worse than that of champion version 3"),
    ({}, replace(LEVEL, recalls={"1": (0.5, 0.6)}), True, "no worse"),  # 10 points are allowed
    (
        {},
        replace(LEVEL, recalls={"1": (0.9, 0.6), "2": (0.49, 0.6)}),
        False,
        "49.0% of the bins with 2, .* 60.0%",
    ),
    ({}, Comparison("3", 0, (0.0, 0.0), {}), False, "no test bin is left that neither it nor champion version 3"),
    ({"exact": 0.1, "ece": 0.5}, LEVEL, False, "Not promoted: it counts 10.0% .*; its calibration error"),
]


@pytest.mark.parametrize(("changes", "comparison", "promoted", "words"), CASES)
def test_the_table_of_cases(changes, comparison, promoted, words):
    decision = decide(replace(GOOD, **changes), comparison)
    assert decision.promoted is promoted
    assert re.search(words, decision.reason), decision.reason
    assert decision.reason.count(". ") == 0
    assert decision.reason.endswith(".")


def test_limits_are_settings():
    strict = GateLimits(ece=0.01)
    assert not decide(GOOD, limits=strict).promoted
    assert [check.rule for check in decide(GOOD, LEVEL, strict).checks if not check.met] == ["ece"]


def test_without_a_champion_its_rules_do_not_apply():
    assert {check.rule for check in decide(GOOD).checks} == {"groups", "exact", "nll", "ece"}
    assert {check.rule for check in decide(GOOD, LEVEL).checks} == {"groups", "exact", "nll", "ece", "rps", "recall"}
