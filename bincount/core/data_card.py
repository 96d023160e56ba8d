"""What a manifest's bins are like, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bincount.core.manifest import Manifest
from bincount.core.rejected import SIBLING, Rejected, count_reasons
from bincount.core.split import SHARES

_PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


def card_of(manifest: Manifest, rejected: Sequence[Rejected]) -> dict[str, Any]:
    """Describes the bins of an ingest.

    Args:
        manifest: What was brought in.
        rejected: What was set aside.

    Returns:
        A JSON-ready dict: `counts` by class and part, percentiles of `width_px`,
        `height_px` and `size_bytes`, `groups` by their number of photos, `parts`,
        `rejected` by reason, `set_aside_siblings`, and `sibling_share`, the share of
        bins that have a sibling in the manifest.
    """
    records = manifest.records
    groups = Counter(record.group for record in records)
    in_groups = sum(size for size in groups.values() if size > 1)
    names = manifest.counts.names
    by_part: dict[str, Counter[str]] = {part: Counter() for part in SHARES}
    for record in records:
        index = manifest.counts.index_of(record.recorded)
        if index is not None:
            by_part[record.part][names[index]] += 1
    return {
        "source": manifest.source,
        "counts": {name: sum(counted[name] for counted in by_part.values()) for name in names},
        "counts_by_part": {part: {name: counted[name] for name in names} for part, counted in by_part.items()},
        "bins": len(records),
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
