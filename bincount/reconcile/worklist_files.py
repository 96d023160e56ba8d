"""The worklist in files, and what there is to say of it in figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bincount.counts import Counts
from bincount.dataset.reader import PHOTOS
from bincount.mismatch.verdicts import MATCH, MISMATCH, NOT_COUNTABLE, UNSURE
from bincount.reconcile.state import ReconcileState
from bincount.reconcile.worklist import COLUMNS, curve_of, neutral, reason_of

_FIELDS = (
    "id, location, recorded, probabilities, verdict, probability, direction, cost, low, high, problem, photo_problem"
)
_FROM_OUTSIDE = ("id", "location", "reason", "photo")


@dataclass(frozen=True)
class WorklistInfo:
    """What is the same for every bin of a worklist.

    Attributes:
        source: Where the photos are.
        model_version: The version that counted.
        manifest: Digest of the manifest that it learned from.
        counts: What it counts.
        alpha: Share of right records that may be called a mismatch.
    """

    source: str
    model_version: str
    manifest: str
    counts: Counts
    alpha: float


def rows_of(work: ReconcileState, about: WorklistInfo, *, limit: int = -1) -> Iterator[dict]:
    """The worklist, worst first: `worklist.COLUMNS` each, None where there is nothing to say."""
    names, values = about.counts.names, about.counts.values
    name_of = dict(zip(values, names, strict=True))
    for row in work.ranked(_FIELDS, limit=limit):
        bin_id, location, recorded, blob, verdict, probability, direction, cost, low, high, problem, photo_problem = row
        probabilities = None if blob is None else np.frombuffer(blob)
        unread = problem or photo_problem
        if unread:
            reason = unread
        else:
            possible = (name_of.get(low, ""), name_of.get(high, ""))
            reason = reason_of(verdict, recorded, direction, *possible, counts=str(about.counts), alpha=about.alpha)
        values_of = (
            bin_id,
            location,
            recorded,
            None if probabilities is None else values[int(probabilities.argmax())],
            None if probabilities is None else dict(zip(names, probabilities.tolist(), strict=True)),
            verdict,
            probability,
            direction or None,
            cost,
            reason,
            None if problem.startswith("id ") or photo_problem else f"{about.source}/{PHOTOS.key(bin_id)}",
            about.model_version,
            about.manifest,
        )
        yield dict(zip(COLUMNS, values_of, strict=True))


def write_lists(work: ReconcileState, about: WorklistInfo, folder: Path) -> None:
    """Writes `worklist.csv` and `worklist.jsonl`, a bin at a time."""
    with (
        (folder / "worklist.csv").open("w", encoding="utf-8", newline="") as table,
        (folder / "worklist.jsonl").open("w", encoding="utf-8") as lines,
    ):
        sheet = csv.writer(table, lineterminator="\n")
        sheet.writerow(COLUMNS)
        for row in rows_of(work, about):
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            fields = {**row, "probabilities": json.dumps(row["probabilities"]) if row["probabilities"] else None}
            for name in _FROM_OUTSIDE:
                fields[name] = neutral(row[name] or "")
            sheet.writerow(["" if value is None else value for value in fields.values()])


def figures_of(work: ReconcileState, *, capacity: int | None, count_cost: float | None) -> dict:
    """What was found, as JSON-ready figures.

    Args:
        work: The bins, judged.
        capacity: How many bins can be counted, None where nothing is said.
        count_cost: What it costs to count one, None where nothing is said.

    Returns:
        `bins`, `judged`, `verdicts`, `not_judged` (by reason), `expected_wrong`
        records among those judged, `to_count` (the first so many of the
        worklist, None where neither limit is given), `expected_found` among them, as against
        `expected_found_at_random`, `learned_from` and the yield `curve`.
    """
    ranked = np.fromiter((row[0] for row in work.ranked("probability") if row[0] is not None), dtype=float)
    to_count: int | None = None
    if capacity is not None:
        to_count = min(capacity, len(ranked))
    elif count_cost is not None:
        to_count = work.count("cost > ?", count_cost)
    expected, bins = float(ranked.sum()), work.count("1")
    verdicts = work.tally("verdict")
    figures = {
        "bins": bins,
        "judged": len(ranked),
        "verdicts": {name: verdicts.get(name, 0) for name in (MISMATCH, MATCH, UNSURE, NOT_COUNTABLE)},
        "not_judged": _reasons(work),
        "expected_wrong": round(expected, 3),
        "to_count": to_count,
        "expected_found": None,
        "expected_found_at_random": None,
        "learned_from": int(work.one("SUM(learned)")),
        "curve": curve_of(ranked),
    }
    if to_count is not None:
        figures["expected_found"] = round(float(ranked[:to_count].sum()), 3)
        figures["expected_found_at_random"] = round(expected * to_count / max(1, len(ranked)), 3)
    return figures


def _reasons(work: ReconcileState) -> dict[str, int]:
    """Why bins were not judged, each bin under one reason."""
    outside = "record is none of the model's counts"
    what = f"CASE WHEN probability IS NOT NULL THEN '' ELSE COALESCE(NULLIF({_PROBLEM}, ''), photo_problem) END"
    found = work.tally(what)
    left = work.count("probability IS NULL") - sum(found.values())
    return {**found, **({outside: left} if left else {})}


# What stands behind the colon is the record's own text: a reason for each of them would be none.
_PROBLEM = "CASE WHEN instr(problem, ':') THEN substr(problem, 1, instr(problem, ':') - 1) ELSE problem END"
