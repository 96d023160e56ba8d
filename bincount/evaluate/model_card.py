"""The model card in Markdown and HTML: verdict, figures beside baselines, detection of wrong records, limits."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bincount.config import GateLimits
from bincount.evaluate import contents_metrics, pair_metrics
from bincount.evaluate.detection_metrics import KINDS
from bincount.evaluate.gate_checks import gate_scores, quality_checks

LICENCE = (
    "Photos of the Amazon Bin Image Dataset are licensed CC BY-NC-SA 3.0 US: attribution, no commercial use, "
    "share alike. A model trained on them is for non-commercial use. "
    "Bins that bincount renders itself are not part of it."
)

_EPOCH_CHOICE = (
    "The whole network was trained, and the calibration part also chose its best epoch: temperature and prediction "
    "intervals may be slightly optimistic. The test part was not used for it."
)

_ROWS = {
    "exact": "exact",
    "within_one": "at most one item off",
    "mae": "mean absolute error of the median, items",
    "rmse": "root mean squared error of the mean, items",
    "nll": "negative log likelihood",
    "rps": "ranked probability score, items",
    "ece": "expected calibration error",
}


def card_of(evaluation: dict, run_id: str, limits: GateLimits) -> list[Block]:
    """The blocks of a model's card; a string is a paragraph.

    Args:
        evaluation: What `evaluate` computed.
        run_id: The run that trained the model.
        limits: The gate's, so that card and gate agree.
    """
    figures, facts, curves = evaluation["metrics"], evaluation["facts"], evaluation["curves"]
    parts = ", ".join(f"{count} {part}" for part, count in evaluation["parts"].items())
    return [
        Heading(1, f"bincount: {facts['backbone']} for counts {facts['counts']}"),
        *summary_of(evaluation, limits),
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
        Picture("per_count.png", "Recall by count."),
        Picture("confusion.png", "Confusion matrix: recorded against predicted count."),
        Picture("reliability.png", "Reliability: share of exact predictions by confidence."),
        Picture("coverage.png", "Error rate on the most confident predictions."),
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
        Picture("slices.png", "Exact predictions by kind of photo."),
        Picture("misses.png", "The least expected records. The record or the model may be wrong."),
        Heading(2, "How it was trained"),
        *([Picture("curves.png", "Learning curves on training and validation bins.")] * bool(curves)),
        Table(
            ("what", "value"),
            (
                ("run", run_id),
                ("source", str(evaluation["source"])),
                ("bins", parts),
                *((name, _shown(value)) for name, value in facts.items() if not isinstance(value, dict | list)),
            ),
        ),
        f"{figures['set_aside']} test bins were set aside because of a sibling photo in the training data.",
        Heading(2, "Limits"),
        "The recorded count comes from inventory records, not from a count by hand: some records are wrong. One photo "
        "does not show the items behind others; published models reach 55 to 56 % exact on counts 0 to 5.",
        *([_EPOCH_CHOICE] * (facts["config"]["fine_tune_epochs"] > 0)),
        *_detection_blocks(evaluation),
        *_pair_blocks(evaluation),
        *_contents_blocks(evaluation),
    ]


def summary_of(evaluation: dict, limits: GateLimits) -> list[Block]:
    """The head of the card: verdict, figures and licence."""
    figures, intervals = evaluation["metrics"], evaluation["intervals"]
    baselines = evaluation["baselines"]

    def shown(name: str, value: float | None) -> str:
        if value is None:
            return "infinite"
        return _percent(value) if name in ("exact", "within_one") else f"{value:.3f}"

    return [
        _verdict(evaluation, limits),
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
        f"Scored on {figures['bins']} bins in {figures['groups']} groups that it did not learn from; intervals by a "
        "bootstrap over groups. The baselines use the class frequencies of the test bins themselves. "
        f"A perfectly calibrated model may show an ECE of up to {figures['ece_by_chance']:.3f} here by chance.",
        f"Data licence: {LICENCE}",
    ]


def to_markdown(blocks: list[Block]) -> str:
    """Renders blocks as Markdown; text from outside is escaped."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def to_html(blocks: list[Block], folder: Path) -> str:
    """Renders blocks as one HTML page with embedded pictures; text is escaped."""
    body = "\n".join(_html(block, folder) for block in blocks)
    title = html.escape(next(block.text for block in blocks if isinstance(block, Heading)))
    return f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n{_STYLE}\n{body}\n</html>\n'


@dataclass(frozen=True)
class Heading:
    """A title, of level 1 or 2."""

    level: int
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells below their titles."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A PNG file beside the card."""

    name: str
    caption: str


Block = Heading | Table | Picture | str


def _detection_blocks(evaluation: dict) -> list[Block]:
    """The blocks on wrong records, from the figures of `detection_metrics.evaluate_detection`."""
    detection = evaluation.get("variance")
    if not detection or not detection["kinds"]:
        return []
    return [
        Heading(2, "Finding wrong records"),
        f"Simulated errors in {detection['error_rate']:.0%} of the test bins' records, every error weighted on every "
        "bin. Image-blind: the best ranking without photos, by the true error rate of each recorded count.",
        Table(
            ("errors", "bins", "AUROC", "95 % interval", "image-blind", "difference, 95 %", "AUPRC", "AUPRC at random"),
            tuple(
                (
                    KINDS[kind],
                    str(row["bins"]),
                    f"{row['model']['auroc']:.3f}",
                    " to ".join(f"{end:.3f}" for end in row["intervals"]["auroc"]),
                    f"{row['image_blind']['auroc']:.3f}",
                    " to ".join(f"{end:+.3f}" for end in row["intervals"]["difference"]),
                    f"{row['model']['auprc']:.3f}",
                    f"{row['random']['auprc']:.3f}",
                )
                for kind, row in detection["kinds"].items()
            ),
        ),
        Table(
            ("errors", "bins counted", "precision", "recall", "lift", "image-blind lift", "false alarms per 1,000"),
            tuple(
                (
                    KINDS[kind],
                    f"{float(share):.0%}",
                    f"{at['precision']:.1%}",
                    f"{at['recall']:.1%}",
                    f"{at['lift']:.1f}",
                    f"{row['image_blind']['at'][share]['lift']:.1f}",
                    f"{at['false_alarms']:.0f}",
                )
                for kind, row in detection["kinds"].items()
                for share, at in row["model"]["at"].items()
            ),
        ),
        Table(
            ("errors", "cost per bin", "image-blind", "random or all"),
            tuple(
                (
                    KINDS[kind],
                    *(f"{row[ranking]['expected_cost']:.3f}" for ranking in ("model", "image_blind", "random")),
                )
                for kind, row in detection["kinds"].items()
            ),
        ),
        f"Costs in units of counting one bin; a missed error costs {detection['miss_cost']:g}.",
    ]


def _pair_blocks(evaluation: dict) -> list[Block]:
    """The blocks on two photos of one bin, from the figures of `pair_metrics.evaluate_pairs`."""
    pairs = evaluation.get("pairs")
    if not pairs:
        return [Heading(2, "Two photos of one bin"), "Not judged: the model has no change head, or no pair to test."]
    judges = {
        "both photos and the count before": pairs,
        "the count before, no photo": pairs["blind"],
        "the later photo alone": pairs["photo"],
    }

    return [
        Heading(2, "Two photos of one bin"),
        f"{pairs['pairs']} pairs of test photos, one transaction apart; learned from {pairs['learned_from']} pairs. "
        f"{_about_unchanged(pairs['unchanged'])} 90 % prediction sets hold the count after in "
        f"{_with_interval(pairs, 'coverage_90')} of the pairs; the mean probability of the most probable count is "
        f"{_with_interval(pairs, 'confidence')}.",
        Table(
            ("judge", "direction AUROC", "count after exact", "within one", "RMSE", "NLL"),
            tuple(
                (
                    name,
                    *(
                        _with_interval(judge, each)
                        for each in ("direction_auroc", "exact", "within_one", "rmse", "nll")
                    ),
                )
                for name, judge in judges.items()
            ),
        ),
        Table(
            ("wrong record after, AUROC", *judges),
            tuple(
                (
                    pair_metrics.ERRORS[kind],
                    _ranged(row["pair"], row["intervals"]["against_blind"]["auroc"]),
                    *(
                        _ranged(row[judge], row["intervals"][f"against_{judge}"]["auroc_blind"])
                        for judge in ("blind", "photo")
                    ),
                )
                for kind, row in pairs["variance"].items()
            ),
        ),
        Table(
            (
                f"lift of the worklist, {pairs['error_rate']:.0%} of the records wrong",
                "at",
                "with the photo before",
                "without",
            ),
            tuple(
                (
                    pair_metrics.ERRORS[kind],
                    f"{percent} %",
                    *(
                        _ranged(lift["value"], lift["interval"], digits=1)
                        for lift in (row["worklist"][ranking][f"lift_{percent}"] for ranking in ("with", "without"))
                    ),
                )
                for kind, row in pairs["variance"].items()
                for percent in (5, 10)
            ),
        ),
    ]


def _about_unchanged(unchanged: dict) -> str:
    found = (
        f"In {unchanged['pairs']} of them nothing moved; of these, {unchanged['called_changed']:.0%} have another most "
        "probable count."
        if unchanged["pairs"]
        else "Something moved in all of them, so nothing is known about false alarms on unchanged bins."
    )
    if unchanged["knows"]:
        return found
    return (
        f"{found} The model learned from too few bins in which nothing moved: a recorded move that did not take "
        "place is not noticed by comparing photos."
    )


def _with_interval(figures: dict, name: str) -> str:
    """A figure with its interval, "" where it is not there."""
    return _ranged(figures[name], figures["intervals"][name]) if name in figures else ""


def _ranged(value: float, ends: Sequence[float], *, digits: int = 3) -> str:
    return f"{value:.{digits}f} ({ends[0]:.{digits}f} to {ends[1]:.{digits}f})"


def _contents_blocks(evaluation: dict) -> list[Block]:
    """The blocks on the products of the records, from the figures of `contents_metrics.evaluate_contents`."""
    contents = evaluation.get("contents")
    if not contents:
        return [
            Heading(2, "The products on the record"),
            "Not judged: the model has no judge of contents, or no record to test names products with sizes.",
        ]
    judges = {
        "photo and list of products": contents,
        "list of products without quantities, no photo": contents["list_only"],
        "photo alone": contents["photo"],
    }

    return [
        Heading(2, "The products on the record"),
        f"{contents['bins']} test bins whose products all have a size. The list is evidence about the total as long as "
        "it is right itself; after a missed transaction it is stale.",
        Table(
            ("judge of the total", "exact", "within one", "RMSE", "NLL"),
            tuple(
                (name, *(_with_interval(judge, each) for each in ("exact", "within_one", "rmse", "nll")))
                for name, judge in judges.items()
            ),
        ),
        Table(
            (
                "wrong record, AUROC (lift at 5 % and 10 %)",
                "list and photo",
                "the same, knowing the kind",
                "count of the photo alone",
                "list, no photo",
            ),
            tuple(
                (
                    contents_metrics.ERRORS[kind],
                    *(
                        f"{row[judge]['auroc']:.3f} ({row[judge]['lift_5']:.1f} and {row[judge]['lift_10']:.1f})"
                        for judge in contents_metrics.JUDGES
                    ),
                )
                for kind, row in contents["variance"].items()
            ),
        ),
    ]


def _verdict(evaluation: dict, limits: GateLimits) -> str:
    checks = quality_checks(gate_scores(evaluation), limits)
    failed = [check for check in checks if not check.met]
    if not failed:
        return f"Better than the baselines: {', '.join(check.figures for check in checks[1:3])}."
    beaten = {"exact", "nll"}.isdisjoint(check.rule for check in failed)
    verdict = "Better than the baselines, but not fit for service" if beaten else "No better than a baseline"
    return f"{verdict}: {'; '.join(check.figures for check in failed)}."


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_plain(block.text)}"
    if isinstance(block, Picture):
        return f"![{_plain(block.caption)}]({block.name})"
    if isinstance(block, Table):
        lines = [block.titles, ("---",) * len(block.titles), *block.rows]
        return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)
    return _plain(block)


def _plain(text: str) -> str:
    for mark in "\\`*_[]|":
        text = text.replace(mark, f"\\{mark}")
    return html.escape(text, quote=False).replace("\n", " ")


def _html(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Picture):
        data = base64.b64encode((folder / block.name).read_bytes()).decode()
        caption = html.escape(block.caption)
        return (
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    if isinstance(block, Table):
        head = "".join(f"<th>{html.escape(title)}</th>" for title in block.titles)
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>\n" for row in block.rows)
        return f"<table><tr>{head}</tr>\n{rows}</table>"
    return f"<p>{html.escape(block)}</p>"


_STYLE = """<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #8884; }
td { font-variant-numeric: tabular-nums; }
td + td { white-space: nowrap; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; background: white; }
figcaption { font-size: 0.85rem; opacity: 0.8; }
</style>"""
