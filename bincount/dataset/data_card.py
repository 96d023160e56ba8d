"""The data card: figures that describe a manifest's bins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bincount.dataset.manifest import Manifest
from bincount.dataset.rejection import SIBLING, Rejection, count_reasons
from bincount.dataset.split import AUXILIARY, PART_FRACTIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


def data_card_of(manifest: Manifest, rejected: Sequence[Rejection]) -> dict[str, Any]:
    """Describes the bins of an ingest.

    Args:
        manifest: What was brought in.
        rejected: What was set aside.

    Returns:
        A JSON-ready dict: `counts` by class and part, percentiles of `width_px`,
        `height_px` and `size_bytes`, `groups` by their number of photos, `parts`, `auxiliary_bins`,
        `rejected` by reason, `set_aside_siblings`, and `sibling_share`, the share of
        bins that have a sibling in the manifest.
    """
    records = [record for record in manifest.records if record.part != AUXILIARY]
    groups = Counter(record.group for record in records)
    in_groups = sum(size for size in groups.values() if size > 1)
    names = manifest.counts.names
    by_part: dict[str, Counter[str]] = {part: Counter() for part in PART_FRACTIONS}
    for record in records:
        index = manifest.counts.index_of(record.recorded)
        if index is not None:
            by_part[record.part][names[index]] += 1
    return {
        "source": manifest.source,
        "counts": {name: sum(counted[name] for counted in by_part.values()) for name in names},
        "counts_by_part": {part: {name: counted[name] for name in names} for part, counted in by_part.items()},
        "bins": len(records),
        "auxiliary_bins": len(manifest.records) - len(records),
        "parts": {part: counted.total() for part, counted in by_part.items()},
        "groups": {str(size): count for size, count in sorted(Counter(groups.values()).items())},
        "sibling_share": in_groups / len(records) if records else 0.0,
        "width_px": _percentiles([record.width_px for record in records]),
        "height_px": _percentiles([record.height_px for record in records]),
        "size_bytes": _percentiles([record.size_bytes for record in records]),
        "total_bytes": sum(record.size_bytes for record in records),
        "shards": len(manifest.shards),
        "rejected": count_reasons(one for one in rejected if one.is_fault),
        "set_aside_siblings": sum(one.reason == SIBLING for one in rejected),
    }


def _percentiles(values: Sequence[int]) -> dict[str, int]:
    if not values:
        return {}
    ranked = sorted(values)
    return {str(share): ranked[round(share / 100 * (len(ranked) - 1))] for share in _PERCENTILES}


def draw_data_card(manifest: Manifest, card: Mapping[str, Any]) -> dict[str, Figure]:
    """Draws a data card.

    Args:
        manifest: The bins.
        card: The answer of `data_card_of`.

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
    positions = range(len(names))
    below = [0] * len(names)
    for part, counted in card["counts_by_part"].items():
        heights = [counted[name] for name in names]
        axes.bar(positions, heights, bottom=below, label=part)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    axes.set_xticks(positions, names)
    axes.set(xlabel="recorded count", ylabel="bins", title=f"{card['bins']:,} bins by recorded count and part")
    axes.legend()


def _draw_groups(axes: Axes, card: Mapping[str, Any]) -> None:
    positions = range(len(card["groups"]))
    bars = axes.bar(positions, list(card["groups"].values()))
    axes.set_xticks(positions, list(card["groups"]))
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
