"""The model's card: what it can and cannot do, for people."""

from __future__ import annotations

from bincount.core.evaluation import scores_of
from bincount.core.gate import decide
from bincount.steps.card_format import Block, Heading, Picture, Table

LICENCE = (
    "Photos of the Amazon Bin Image Dataset are licensed CC BY-NC-SA 3.0 US: attribution, no commercial use, "
    "share alike. A model trained on them is for non-commercial use. "
    "Bins that bincount renders itself are not part of it."
)

_ROWS = {
    "exact": "answered exactly",
    "within_one": "at most one item off",
    "mae": "mean absolute error of the median, items",
    "rmse": "root mean squared error of the mean, items",
    "nll": "negative log likelihood",
    "rps": "ranked probability score, items",
    "ece": "expected calibration error",
}


def card_of(evaluation: dict, run_id: str) -> list[Block]:
    """The blocks of a model's card; a string is a paragraph."""
    figures, facts, curves = evaluation["metrics"], evaluation["facts"], evaluation["curves"]
    parts = ", ".join(f"{count} {part}" for part, count in evaluation["parts"].items())
    return [
        Heading(1, f"bincount: {facts['backbone']} for counts {facts['counts']}"),
        *summary_of(evaluation),
        Heading(2, "By recorded count"),
        Table(
            ("count", "bins", "recall", "precision", "within one", "mean prediction"),
            tuple(
                (
                    row["count"],
                    str(row["bins"]),
                    *(_percent(row[figure]) for figure in ("recall", "precision", "within_one")),
                    "" if row["mean"] is None else f"{row['mean']:.2f}",
                )
                for row in evaluation["per_count"]
            ),
        ),
        Picture("per_count.png", "Share of the bins of each count that are found."),
        Picture("confusion.png", "Recorded against answered count."),
        Picture("reliability.png", "How often an answer of some confidence is exact."),
        Picture("coverage.png", "How often it is wrong on the bins it is surest of."),
        Heading(2, "By kind of photo"),
        Table(
            ("kind", "photos", "bins", "exact", "largest class", "within one", "NLL"),
            tuple(
                (
                    kind,
                    row["slice"],
                    str(row["bins"]),
                    _percent(row["exact"]),
                    _percent(row["largest_class"]),
                    _percent(row["within_one"]),
                    f"{row['nll']:.3f}",
                )
                for kind, rows in evaluation["slices"].items()
                for row in rows
            ),
        ),
        Picture("slices.png", "The same as a picture."),
        Picture("misses.png", "The worst misses. The record may be wrong as well as the model."),
        Heading(2, "How it was made"),
        *([Picture("curves.png", "Learning curves: in training and on bins it does not learn from.")] * bool(curves)),
        Table(
            ("what", "value"),
            (
                ("run", run_id),
                ("source", str(evaluation["source"])),
                ("bins", parts),
                *((name, str(value)) for name, value in facts.items() if not isinstance(value, dict | list)),
            ),
        ),
        f"{figures['set_aside']} test bins were set aside because a sibling photo of the same bin was learned from.",
        Heading(2, "Limits"),
        "The recorded count is what the books say, not a count by hand: some of the records are wrong. One photo does "
        "not show what lies behind; published models reach 55 to 56 % exact on counts 0 to 5.",
    ]


def summary_of(evaluation: dict) -> list[Block]:
    """The card's head: the verdict, the figures and the licence."""
    figures, intervals = evaluation["metrics"], evaluation["intervals"]
    baselines = evaluation["baselines"]

    def shown(name: str, value: float | None) -> str:
        if value is None:
            return "infinite"
        return _percent(value) if name in ("exact", "within_one") else f"{value:.3f}"

    return [
        _verdict(evaluation),
        Table(
            ("test bins", "value", "95 % interval", "always the largest class", "always the class prior"),
            tuple(
                (
                    text,
                    shown(name, figures[name]),
                    " to ".join(shown(name, end) for end in intervals[name]),
                    *(shown(name, baselines[kind][name]) for kind in ("largest_class", "class_prior")),
                )
                for name, text in _ROWS.items()
            ),
        ),
        f"Scored on {figures['bins']} bins in {figures['groups']} groups that it did not learn from; intervals by "
        "drawing groups anew. The baselines are told the class frequencies of these very bins. "
        f"By chance alone a calibrated model may show an ECE of up to {figures['ece_by_chance']:.3f} here.",
        f"Data licence: {LICENCE}",
    ]


def _verdict(evaluation: dict) -> str:
    decision = decide(scores_of(evaluation))
    met = {check.rule: check.met for check in decision.checks}
    figures = decision.reason.split(": ", 1)[1]
    if decision.promoted:
        return f"Better than the baselines: {figures}"
    if met["exact"] and met["nll"]:
        return f"Better than the baselines, but not fit for service: {figures}"
    return f"No better than a baseline: {figures}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
