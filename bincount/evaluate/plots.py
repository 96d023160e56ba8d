"""Plots of an evaluation: counts, confusion, reliability, coverage, learning curves, groups, and the worst errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bincount.counts import Counts
from bincount.dataset.manifest import Manifest, Record
from bincount.dataset.shards import photos_of
from bincount.evaluate.count_metrics import truth_of
from bincount.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = ("per_count", "confusion", "reliability", "coverage", "slices", "curves", "misses")

_INK, _QUIET, _WARM = "#1f4e79", "#9db4c8", "#d9822b"
_MISSES, _MISS_PX = 12, 200


def draw(
    settings: Settings,
    folder: Path,
    evaluation: dict,
    manifest: Manifest,
    records: Sequence[Record],
    probabilities: np.ndarray,
) -> None:
    """Draws `FIGURES` as PNG files into a folder; "curves" only if there are any."""
    counts = Counts.parse(evaluation["facts"]["counts"])
    for name, paint in {
        "per_count": _per_count,
        "confusion": _confusion,
        "reliability": _reliability,
        "coverage": _coverage,
        "slices": _slices,
        **({"curves": _curves} if evaluation["curves"] else {}),
    }.items():
        _save(folder / f"{name}.png", paint, evaluation)

    truth = truth_of(records, counts)
    surprise = probabilities[np.arange(len(truth)), truth]
    worst = sorted(int(index) for index in np.argsort(surprise, kind="stable")[:_MISSES])
    photos = dict(zip(worst, photos_of(settings, manifest, [records[index] for index in worst]), strict=True))
    rows = [(photos[index], records[index], probabilities[index]) for index in sorted(worst, key=lambda i: surprise[i])]
    _save(folder / "misses.png", _misses, rows, counts)


def _save(path: Path, paint: Callable[..., None], *arguments: object) -> None:
    from matplotlib.figure import Figure  # not pyplot, which keeps figures

    figure = Figure(layout="constrained", dpi=110)
    paint(figure, *arguments)
    figure.savefig(path)


def _per_count(figure: Figure, evaluation: dict) -> None:
    figure.set_size_inches(7, 3.6)
    axes = figure.subplots()
    rows = evaluation["per_count"]
    x = np.arange(len(rows))
    axes.bar(x - 0.2, [row["recall"] or 0 for row in rows], 0.38, color=_INK, label="exact")
    axes.bar(x + 0.2, [row["within_one"] or 0 for row in rows], 0.38, color=_QUIET, label="within one")
    axes.axhline(
        evaluation["metrics"]["largest_class"], color=_WARM, linestyle="--", label="always the largest class, overall"
    )
    axes.set_xticks(x, [f"{row['count']}\n{row['bins']} bins" for row in rows])
    _label(axes, "Recall by count", "recorded count", "share of its bins")
    axes.set_ylim(0, 1)
    figure.legend(frameon=False, ncols=3, loc="outside lower center", fontsize=8)


def _confusion(figure: Figure, evaluation: dict) -> None:
    figure.set_size_inches(5.2, 4.6)
    axes = figure.subplots()
    table = np.asarray(evaluation["confusion"])
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), bins in np.ndenumerate(table):
        colour = "white" if share[row, column] > 0.5 else "black"
        text = f"{bins}\n{share[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(table)), evaluation["counts"])
    axes.set_yticks(range(len(table)), evaluation["counts"])
    _label(axes, "Confusion matrix", "predicted", "recorded")


def _reliability(figure: Figure, evaluation: dict) -> None:
    figure.set_size_inches(5.2, 4.6)
    axes = figure.subplots()
    rows = evaluation["reliability"]
    most = max(row["bins"] for row in rows)
    axes.plot([0, 1], [0, 1], color=_QUIET, linestyle="--", label="perfectly calibrated")
    axes.plot([row["confidence"] for row in rows], [row["right"] for row in rows], color=_INK)
    axes.scatter(
        [row["confidence"] for row in rows],
        [row["right"] for row in rows],
        s=[20 + 180 * row["bins"] / most for row in rows],
        color=_INK,
        label="bins (area: number)",
        clip_on=False,
        zorder=3,
    )
    figures = evaluation["metrics"]
    title = f"Calibration: ECE {figures['ece']:.3f}, by chance up to {figures['ece_by_chance']:.3f}"
    _label(axes, title, "confidence", "share of exact predictions")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    figure.legend(frameon=False, ncols=2, loc="outside lower center", fontsize=8)


def _coverage(figure: Figure, evaluation: dict) -> None:
    figure.set_size_inches(5.2, 4.2)
    axes = figure.subplots()
    rows = evaluation["coverage"]
    share = [row["coverage"] for row in rows]
    axes.plot(share, [1 - row["exact"] for row in rows], color=_INK, marker="o", label="not exact")
    axes.plot(share, [1 - row["within_one"] for row in rows], color=_QUIET, marker="o", label="off by two or more")
    missed = 1 - evaluation["metrics"]["largest_class"]
    axes.axhline(missed, color=_WARM, linestyle="--", label="always the largest class, not exact")
    _label(axes, "Error rate of the most confident predictions", "share of the bins", "error rate")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1)
    figure.legend(frameon=False, ncols=2, loc="outside lower center", fontsize=8)


def _curves(figure: Figure, evaluation: dict) -> None:
    stages: dict[str, dict[str, dict[int, float]]] = {}
    for name, points in evaluation["curves"].items():
        stage, _, what = name.partition("/")
        stages.setdefault(stage, {})[what] = points
    figure.set_size_inches(5.2 * len(stages), 3.6)
    for axes, (stage, lines) in zip(figure.subplots(1, len(stages), squeeze=False).flat, stages.items(), strict=True):
        for what, points in lines.items():
            epochs = sorted(points)
            colour = {"loss": _QUIET, "nll": _WARM}.get(what, _INK)
            axes.plot([epoch + 1 for epoch in epochs], [points[epoch] for epoch in epochs], color=colour, label=what)
        axes.xaxis.get_major_locator().set_params(integer=True)
        _label(axes, stage.replace("_", "-"), "epoch", "nats")
        axes.legend(frameon=False, fontsize=8)


def _slices(figure: Figure, evaluation: dict) -> None:
    rows = [
        (f"{kind}: {row['slice']} ({row['bins']})", row) for kind, each in evaluation["slices"].items() for row in each
    ]
    figure.set_size_inches(7, 1.2 + 0.34 * len(rows))
    axes = figure.subplots()
    y = np.arange(len(rows))[::-1]
    axes.barh(y + 0.18, [row["exact"] for _, row in rows], 0.36, color=_INK, label="exact")
    axes.barh(y - 0.18, [row["largest_class"] for _, row in rows], 0.36, color=_WARM, label="always the largest class")
    axes.axvline(evaluation["metrics"]["exact"], color=_QUIET, linestyle="--", label="exact, all bins")
    axes.set_yticks(y, [name for name, _ in rows], fontsize=8)
    _label(axes, "Exact predictions by kind of photo", "share of its bins", "")
    axes.set_xlim(0, 1)
    figure.legend(frameon=False, ncols=3, loc="outside lower center", fontsize=8)


def _misses(figure: Figure, rows: list[tuple[bytes, Record, np.ndarray]], counts: Counts) -> None:
    from bincount.learn.images import decode

    columns = 4
    lines = -(-len(rows) // columns)
    figure.set_size_inches(9, 0.5 + 2.5 * lines)
    figure.suptitle("Least expected records", fontsize=11)
    for axes in figure.subplots(lines, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, (photo, record, distribution) in zip(figure.axes, rows, strict=False):
        axes.imshow(np.asarray(decode(photo, image_px=_MISS_PX, fit="pad")))
        best = int(distribution.argmax())
        answer = f"predicted {counts.names[best]} ({distribution[best]:.0%})"
        axes.set_title(f"{record.id}: recorded {record.recorded},\n{answer}", fontsize=8)


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
