"""The report: one page that opens from disk, needs no network and runs nothing that is not its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import jinja2
from markupsafe import Markup

from bincount.steps.reconciling.writing import About

MOST_ROWS, MOST_PHOTOS = 1000, 200

_HERE = Path(__file__).parent
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 588, 14, 280  # of the plot, within the drawing
_SHARES = (0.01, 0.02, 0.05, 0.10, 0.20)
_HIDDEN_IF_BLIND = (
    *("recorded", "predicted", "probabilities", "verdict", "mismatch_probability", "direction"),
    *("expected_cost", "reason", "shows"),
)


def report_of(summary: Mapping, rows: Sequence[Mapping], photos: Mapping[str, bytes], about: About) -> str:
    """Writes the page; everything from outside is escaped, and the page forbids any other script.

    Args:
        summary: What `summary.json` says. If it is `blind`, nothing may show
            what is recorded or what the model sees: none of it is in the file then, not only out of sight.
        rows: The first rows of the worklist.
        photos: Reduced JPEGs of some of them, by id.
        about: What is the same for all of them.
    """
    style, script = (_HERE / "report.css").read_text(), (_HERE / "report.js").read_text()
    names = dict(zip(about.counts.values, about.counts.names, strict=True))
    shown = [
        {
            **row,
            "shows": names.get(row["predicted"], ""),
            "thumbnail": base64.b64encode(photos[row["id"]]).decode() if row["id"] in photos else "",
        }
        for row in rows
    ]
    if summary["blind"]:
        shown = [{name: value for name, value in row.items() if name not in _HIDDEN_IF_BLIND} for row in shown]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"number": "{:,}".format, "items": _items, "percent": _percent}
    return environment.get_template("report.html.jinja").render(
        summary=summary,
        rows=shown,
        photos=len(photos),
        about=asdict(about) | {"counts": str(about.counts)},
        plot=_plot(summary),
        yields=_yields(summary),
        style=Markup(style),  # noqa: S704 our own file
        script=Markup(script),  # noqa: S704 our own file
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _items(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def _plot(summary: Mapping) -> dict:
    """Where the curve's points, the cut and the ticks lie."""
    bins, most = max(1, summary["judged"]), summary["curve"][-1][1]
    high = _nice(most)

    def x(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * value / bins, 1)

    def y(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * value / high, 1)

    anchors = ("start", "middle", "end")
    cut = summary["to_count"]
    return {
        "points": " ".join(f"{x(at)},{y(found)}" for at, found in summary["curve"]),
        "top": y(most),
        "cut": None if cut is None else min(x(cut), _RIGHT - 120),
        "x_ticks": [
            {"at": x(bins * half / 2), "text": f"{bins * half / 2:,.0f}", "anchor": anchors[half]} for half in range(3)
        ],
        "y_ticks": [{"at": y(high * half / 2), "text": f"{high * half / 2:,.3g}"} for half in range(3)],
    }


def _nice(most: float) -> float:
    """The least of 1, 2, 5, 10, ... (and their tenths) that is not below."""
    nice = 1e-3
    while True:
        for factor in (1, 2, 5):
            if nice * factor >= most:
                return nice * factor
        nice *= 10


def _yields(summary: Mapping) -> list[dict]:
    """What counting some shares of the bins is expected to find; between points the curve is straight."""
    curve, judged = summary["curve"], summary["judged"]
    wanted = {max(1, round(share * judged)) for share in _SHARES} if judged else set()
    rows = []
    for bins in sorted(wanted):
        after = next(place for place, (at, _) in enumerate(curve) if at >= bins)
        (left, low), (right, high) = curve[after - 1], curve[after]
        found = low + (high - low) * (bins - left) / (right - left)
        rows.append({"bins": bins, "share": bins / judged, "found": found, "at_random": curve[-1][1] * bins / judged})
    return rows
