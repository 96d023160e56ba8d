"""Comparison of versions that answered the same photos: the one that served, and its shadow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute

from bincount.evaluate.served_log import SERVED, SHADOW, read_served_log

_COLUMNS = ("request", "row", "role", "version", "digest", "status", "latency_ms", "count", "verdict")
_KEYS = ["request", "row"]


def compare_served(folder: Path) -> dict:
    """Compares each pair of versions that answered the same photos, one as served and one as shadow.

    Args:
        folder: The log of `bincount serve --log --shadow`.

    Returns:
        `pairs`, a list of what `compare_pair` gives, by version.

    Raises:
        ConfigError: If there is no such folder.
        DataError: If a file is damaged.
    """
    return {"pairs": compare_log(read_served_log(folder, _COLUMNS))}


def compare_log(log: pyarrow.Table) -> list[dict]:
    """Compares the pairs of versions in rows of a log."""
    sides = {}
    for role in (SERVED, SHADOW):
        rows = log.filter(compute.equal(log["role"], role))
        sides[role] = rows.rename_columns([name if name in _KEYS else f"{role}_{name}" for name in rows.column_names])
    joined = sides[SHADOW].join(sides[SERVED], _KEYS, join_type="inner").sort_by([(key, "ascending") for key in _KEYS])
    versions = joined.group_by(["served_version", "shadow_version"]).aggregate([]).to_pylist()
    pairs = []
    for pair in sorted(versions, key=lambda pair: tuple(int(version) for version in pair.values())):
        mine = [compute.equal(joined[name], version) for name, version in pair.items()]
        pairs.append({**pair, **compare_pair(joined.filter(compute.and_(*mine)))})
    return pairs


def compare_pair(rows: pyarrow.Table) -> dict:
    """Compares the answers of a served version and its shadow.

    Args:
        rows: One a photo, N >= 1, with the columns of both sides as "served_..." and "shadow_...".

    Returns:
        `requests`, `photos`, `different_photos`, and `failed`, photos that the shadow did not answer.
        Of the answered ones: `agreement`, the share with equal counts; `mean_difference`, shadow minus
        served; `by_count`, the same for each served count, with `differences`, photos by difference.
        `verdicts`: `photos` with a verdict from both, `changed` ones, and `changes`, photos by served and
        shadow verdict. `latency_ms`: `p50` and `p95` of requests by role. What has no photos is None.
    """
    answered = rows.filter(compute.equal(rows["shadow_status"], 200))
    served, shadow = (answered[f"{role}_count"].to_numpy() for role in (SERVED, SHADOW))
    by_count = [
        {"served": int(count), **_agreement(served[served == count], shadow[served == count], differences=True)}
        for count in np.unique(served)
    ]
    pairs = zip(answered["served_verdict"].to_pylist(), answered["shadow_verdict"].to_pylist(), strict=True)
    verdicts = Counter((before, after) for before, after in pairs if before is not None and after is not None)
    changes = [
        {"served": before, "shadow": after, "photos": number}
        for (before, after), number in sorted(verdicts.items())
        if before != after
    ]
    first = answered.filter(compute.equal(answered["row"], 0))
    return {
        "requests": len(rows["request"].unique()),
        **_agreement(served, shadow),
        "photos": len(rows),
        "different_photos": len(rows["served_digest"].unique()),
        "failed": len(rows) - len(answered),
        "by_count": by_count,
        "verdicts": {
            "photos": verdicts.total(),
            "changed": sum(change["photos"] for change in changes),
            "changes": changes,
        },
        "latency_ms": {role: _percentiles(first[f"{role}_latency_ms"].to_numpy()) for role in (SERVED, SHADOW)},
    }


def _agreement(served: np.ndarray, shadow: np.ndarray, *, differences: bool = False) -> dict:
    """Figures of (N,) counts of both sides."""
    figures: dict = {
        "photos": len(served),
        "agreement": float(np.mean(served == shadow)) if len(served) else None,
        "mean_difference": float(np.mean(shadow - served)) if len(served) else None,
    }
    if differences:
        values, numbers = np.unique(shadow - served, return_counts=True)
        figures["differences"] = {f"{value:+d}": int(n) for value, n in zip(values, numbers, strict=True)}
    return figures


def _percentiles(latency_ms: np.ndarray) -> dict[str, float | None]:
    if not len(latency_ms):
        return {"p50": None, "p95": None}
    p50, p95 = np.percentile(latency_ms, [50, 95])
    return {"p50": float(p50), "p95": float(p95)}


def to_text(report: dict) -> str:
    """The report of `compare_served` as plain tables."""
    if not report["pairs"]:
        return "No photo was answered by a served version and a shadow."
    return "\n\n\n".join(map(_pair_to_text, report["pairs"]))


def _pair_to_text(pair: dict) -> str:
    figures = [
        ("requests", f"{pair['requests']:,}"),
        ("photos", f"{pair['photos']:,}, {pair['different_photos']:,} different"),
        ("not answered by the shadow", f"{pair['failed']:,}"),
        ("same count", _shown(pair["agreement"], ".1%")),
        ("mean difference", _shown(pair["mean_difference"], "+.3f")),
        ("verdicts changed", f"{pair['verdicts']['changed']:,} of {pair['verdicts']['photos']:,}"),
    ]
    for role, times in pair["latency_ms"].items():
        p50, p95 = (_shown(times[name], ".1f") for name in ("p50", "p95"))
        figures.append((f"latency, {role}", f"p50 {p50} ms, p95 {p95} ms"))
    parts = [f"version {pair['served_version']} served, version {pair['shadow_version']} shadow", _table(figures)]
    steps = sorted({step for row in pair["by_count"] for step in row["differences"]}, key=int)
    counts = [("served", "photos", "same", "mean", *steps)]
    for row in pair["by_count"]:
        shown = _shown(row["agreement"], ".1%"), _shown(row["mean_difference"], "+.3f")
        numbers = [f"{row['differences'].get(step, 0):,}" for step in steps]
        counts.append((str(row["served"]), f"{row['photos']:,}", *shown, *numbers))
    parts.append(_table(counts))
    if pair["verdicts"]["changes"]:
        changes = [(each["served"], each["shadow"], f"{each['photos']:,}") for each in pair["verdicts"]["changes"]]
        parts.append(_table([("served verdict", "shadow verdict", "photos"), *changes]))
    return "\n\n".join(parts)


def _shown(value: float | None, shape: str) -> str:
    return "-" if value is None else format(value, shape)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in padded)
