"""Pictures of what an ingest brought in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bincount.core.manifest import Manifest
from bincount.core.rejected import SIBLING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_card(manifest: Manifest, card: Mapping[str, Any]) -> dict[str, Figure]:
    """Draws a data card.

    Args:
        manifest: The bins.
        card: What `bincount.core.data_card.card_of` says of them.

    Returns:
        Figures by path below a run's artifacts: counts by part, photos a bin,
        photo sizes and, where some were set aside, why.
    """
    figures = {
        "data/counts.png": _figure(_draw_counts, card),
        "data/groups.png": _figure(_draw_groups, card),
        "data/sizes.png": _figure(_draw_sizes, manifest),
    }
    if card["rejected"] or card["set_aside_siblings"]:
        figures["data/rejected.png"] = _figure(_draw_rejected, card)
    return figures


def _figure(draw: Any, what: object) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    draw(figure.subplots(), what)
    return figure


def _draw_counts(axes: Axes, card: Mapping[str, Any]) -> None:
    names = list(card["counts"])
    places = range(len(names))
    below = [0] * len(names)
    for part, counted in card["counts_by_part"].items():
        heights = [counted[name] for name in names]
        axes.bar(places, heights, bottom=below, label=part)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    axes.set_xticks(places, names)
    axes.set(xlabel="recorded count", ylabel="bins", title=f"{card['bins']:,} bins by recorded count and part")
    axes.legend()


def _draw_groups(axes: Axes, card: Mapping[str, Any]) -> None:
    places = range(len(card["groups"]))
    bars = axes.bar(places, list(card["groups"].values()))
    axes.set_xticks(places, list(card["groups"]))
    axes.bar_label(bars)
    share = card["sibling_share"]
    axes.set(xlabel="photos of one bin", ylabel="groups", title=f"{share:.0%} of photos have a sibling")


def _draw_sizes(axes: Axes, manifest: Manifest) -> None:
    widths = [record.width_px for record in manifest.records]
    heights = [record.height_px for record in manifest.records]
    axes.hexbin(widths, heights, gridsize=40, mincnt=1, bins="log", cmap="viridis")
    axes.set(xlabel="width, pixels", ylabel="height, pixels", title="Photo sizes", aspect="equal")


def _draw_rejected(axes: Axes, card: Mapping[str, Any]) -> None:
    counted = {**card["rejected"], SIBLING: card["set_aside_siblings"]}
    shown = sorted(((count, reason) for reason, count in counted.items() if count), reverse=True)[:12]
    bars = axes.barh([reason for _, reason in shown], [count for count, _ in shown])
    axes.bar_label(bars)
    axes.invert_yaxis()
    axes.set(xlabel="bins", title="Set aside")
