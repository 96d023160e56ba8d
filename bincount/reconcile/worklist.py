"""The worklist: bins in the order in which to count them, and what counting them is expected to find."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from bincount.counts import Counts
from bincount.dataset.keys import photo_key
from bincount.dataset.split import part_of
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.verdicts import MATCH, MISMATCH, NOT_COUNTABLE, UNSURE, compare_records
from bincount.reconcile.state import CONTENTS, PHOTOS, ReconcileState

COLUMNS = (
    *("id", "location", "recorded", "predicted", "probabilities", "low", "high", "verdict", "mismatch_probability"),
    *("direction", "expected_cost", "reason", "evidence", "photo", "before", "counted_before", "model_version"),
    "manifest",
)
"""Of the worklist, in order."""

_CURVE_POINTS = 200  # at most
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_EXTERNAL_COLUMNS = ("id", "location", "reason", "photo", "before")  # hold text from outside
_DIGITS = 6
_VERDICT_COLUMNS = ("verdict", "probability", "direction", "size", "low", "high", "cost", "learned")
_ROW_COLUMNS = (
    "id, location, recorded, COALESCE(joint, probabilities), verdict, probability, direction, cost, low, high, "
    "problem, photo_problem, before, counted_before, counted_on, before_problem, evidence, contents_problem, litres"
)
# The text after a colon quotes the record and is cut off; otherwise each record would be counted as another reason.
_REASON = "CASE WHEN instr(problem, ':') THEN substr(problem, 1, instr(problem, ':') - 1) ELSE problem END"
_NOT_JUDGED = f"CASE WHEN probability IS NOT NULL THEN '' ELSE COALESCE(NULLIF({_REASON}, ''), photo_problem) END"


@dataclass(frozen=True)
class WorklistContext:
    """Facts that are the same for every bin of a worklist.

    Attributes:
        source: Where the photos are.
        model_version: Version of the model.
        manifest: Digest of the manifest that the model was trained on.
        counts: The model's classes.
        alpha: Share of correct records that may be called a mismatch.
    """

    source: str
    model_version: str
    manifest: str
    counts: Counts
    alpha: float


def write_verdicts(
    state: ReconcileState,
    calibrations: Mapping[str, Calibration],
    *,
    error_rate: float,
    alpha: float,
    temperature: float,
    miss_cost: float,
    is_source: bool,
) -> None:
    """Compares every record with its photo's scores and stores verdict, probability and expected cost.

    Args:
        state: The bins, their photos scored.
        calibrations: The model's, by `PHOTO`, `PHOTOS` and `CONTENTS`, as far as it has them.
        error_rate: Share of records that are wrong.
        alpha: Share of correct records that may be called a mismatch.
        temperature: Of the model's probabilities.
        miss_cost: Cost of a wrong record that is not found, beside the value of its items.
        is_source: Whether the model was trained on bins of this very source.

    Raises:
        ConfigError: If `error_rate` or `alpha` is not above 0 and below 1.
    """
    for page in state.pages("id, recorded, unit_value, COALESCE(joint, probabilities), missed, evidence", "1"):
        state.update(_VERDICT_COLUMNS, [(NOT_COUNTABLE, None, "", None, None, None, None, 0, row[0]) for row in page])
        scored = sorted((row for row in page if row[4] is not None and row[2] is not None), key=_kind_of)
        for kind, rows in groupby(scored, key=_kind_of):
            positions, ids, recorded, values, blobs, missed, _ = zip(*rows, strict=True)
            compared = compare_records(
                np.stack([np.frombuffer(blob) for blob in blobs]),
                np.asarray(recorded),
                calibrations[kind],
                error_rate=error_rate,
                alpha=alpha,
                temperature=temperature,
                missed=np.asarray(missed, float) if kind == CONTENTS else None,
            )
            cost = expected_cost(compared.probability, compared.size, np.asarray(values, dtype=float), miss_cost)
            updates = []
            for row, verdict in enumerate(compared.verdict):
                figures = [round(float(each[row]), _DIGITS) for each in (compared.probability, compared.size, cost)]
                probability, size, row_cost = figures if verdict != NOT_COUNTABLE else (None, None, None)
                interval = (int(compared.low[row]), int(compared.high[row]))
                learned = int(is_source and part_of(ids[row]) != "test")
                direction = compared.direction[row]
                updates.append((verdict, probability, direction, size, *interval, row_cost, learned, positions[row]))
            state.update(_VERDICT_COLUMNS, updates)


def _kind_of(row: tuple) -> str:
    """The evidence whose calibration a row takes."""
    return CONTENTS if row[6].endswith(CONTENTS) else row[6]


def expected_cost(probability: np.ndarray, size: np.ndarray, unit_value: np.ndarray, miss_cost: float) -> np.ndarray:
    """Expected cost of not counting each bin.

    Args:
        probability: (N,) that the record is wrong.
        size: (N,) expected difference if it is, in items.
        unit_value: (N,) value of an item, NaN where it is unknown.
        miss_cost: Cost of a wrong record that is not found, beside the value of its items.

    Returns:
        (N,) probability x (miss_cost + size x unit_value).

    Example:
        >>> expected_cost(np.array([0.5, 0.5]), np.array([2.0, 2.0]), np.array([3.0, np.nan]), 1.0)
        array([3.5, 0.5])
    """
    return probability * (miss_cost + size * np.nan_to_num(unit_value))


def worklist_rows(state: ReconcileState, context: WorklistContext, *, limit: int = -1) -> Iterator[dict]:
    """The worklist, highest expected cost first: `COLUMNS` each, None where there is no value."""
    names, values = context.counts.names, context.counts.values
    name_of = dict(zip(values, names, strict=True))
    for row in state.ranked(_ROW_COLUMNS, limit=limit):
        bin_id, location, recorded, blob, verdict, probability, direction, cost, low, high, *rest = row
        problem, photo_problem, before, counted_before, counted_on, before_problem, evidence, *products = rest
        follows = evidence.startswith(PHOTOS)
        scores = None if blob is None else np.frombuffer(blob)
        interval = (name_of.get(low, ""), name_of.get(high, ""))
        yield {
            "id": bin_id,
            "location": location,
            "recorded": recorded,
            "predicted": None if scores is None else values[int(scores.argmax())],
            "probabilities": None if scores is None else dict(zip(names, scores.tolist(), strict=True)),
            "low": low,
            "high": high,
            "verdict": verdict,
            "mismatch_probability": probability,
            "direction": direction or None,
            "expected_cost": cost,
            "reason": problem
            or photo_problem
            or reason_of(verdict, recorded, direction, *interval, counts=str(context.counts), alpha=context.alpha)
            + history_reason(
                before,
                counted_before,
                before_problem,
                recorded,
                scores if follows else None,
                context.counts,
                counted_on=counted_on,
            )
            + contents_reason(*products),
            "evidence": None if blob is None else evidence,
            "photo": None if problem.startswith("id ") or photo_problem else f"{context.source}/{photo_key(bin_id)}",
            "before": f"{context.source}/{photo_key(before)}" if before and follows else None,
            "counted_before": counted_before if follows else None,
            "model_version": context.model_version,
            "manifest": context.manifest,
        }


def reason_of(verdict: str, recorded: int, direction: str, low: str, high: str, *, counts: str, alpha: float) -> str:
    """The reason for a verdict, in a sentence.

    Args:
        verdict: Of `mismatch.verdicts`.
        recorded: The recorded count.
        direction: "fewer" or "more".
        low: Name of the lowest count of the prediction interval.
        high: Name of the highest.
        counts: The model's classes, such as "1-5".
        alpha: Share of correct records outside their prediction interval.

    Example:
        >>> reason_of("mismatch", 5, "fewer", "1", "2", counts="1-5", alpha=0.05)
        'the record is outside the 95 % prediction interval (1 to 2): probably fewer items than recorded'
    """
    if verdict == NOT_COUNTABLE:
        return f"the model counts {counts}: it cannot check a record of {recorded}"
    interval = f"the {100 * (1 - alpha):.4g} % prediction interval ({low if low == high else f'{low} to {high}'})"
    if verdict == MISMATCH:
        return f"the record is outside {interval}: probably {direction} items than recorded"
    if verdict == MATCH:
        return f"the record agrees with the photo: it is within {interval}"
    return f"the photo does not decide: the record is within {interval}"


def history_reason(
    before: str,
    counted: int | None,
    problem: str,
    recorded: int,
    scores: np.ndarray | None,
    counts: Counts,
    *,
    counted_on: str = "",
) -> str:
    """Part of a reason: the change since the earlier photo, or why that was not used; "" where the record names none.

    Args:
        before: Id of the earlier photo.
        counted: The count that was confirmed then.
        problem: Why the earlier photo is not used, "" where it is.
        recorded: The recorded count.
        scores: (C,) distribution over the classes from both photos; None where it is not used.
        counts: The C classes.
        counted_on: The day of that count, "" where it is not known.

    Example:
        >>> scores = np.array([0.1, 0.1, 0.7, 0.1, 0.0])
        >>> history_reason("00041", 5, "", 4, scores, Counts.parse("1-5"), counted_on="2026-11-20")
        '; since photo 00041 (5 counted on 2026-11-20) probably 2 fewer, the record says 1 fewer'
        >>> history_reason("00041", 7, "", 8, scores[:3], Counts.parse("1-2+"))
        '; since photo 00041 (7 counted) probably 3+ in it, the record says 1 more'
    """
    if problem:
        return f"; judged without an earlier photo: {problem}"
    if scores is None or counted is None:
        return ""
    best, day = int(scores.argmax()), f" on {counted_on}" if counted_on else ""
    is_open = counts.open_top and best == len(counts) - 1
    seen = f"{counts.names[best]} in it" if is_open else _change(counts.values[best] - counted)
    return (
        f"; since photo {before} ({counted} counted{day}) probably {seen}, "
        f"the record says {_change(recorded - counted)}"
    )


def contents_reason(problem: str, litres: str | None) -> str:
    """Part of a reason: the products' volume, and why they or a weight were not used; "" where it names none.

    Example:
        >>> contents_reason("its products sum to 3, the record says 2", None)
        '; judged without its products: its products sum to 3, the record says 2'
        >>> contents_reason("product 2: weight must be …, got 0 'lb'", "the record lists 4.1 litres of products")
        "; the record lists 4.1 litres of products; judged without a weight: product 2: weight must be …, got 0 'lb'"
    """
    missing = f"; judged without {'a weight' if litres else 'its products'}: {problem}" if problem else ""
    return f"; {litres}{missing}" if litres else missing


def _change(change: int) -> str:
    return f"{abs(change)} {'fewer' if change < 0 else 'more'}" if change else "as many"


def write_worklist(state: ReconcileState, context: WorklistContext, folder: Path) -> None:
    """Writes `worklist.csv` and `worklist.jsonl`, a bin at a time."""
    with (
        (folder / "worklist.csv").open("w", encoding="utf-8", newline="") as table,
        (folder / "worklist.jsonl").open("w", encoding="utf-8") as lines,
    ):
        sheet = csv.writer(table, lineterminator="\n")
        sheet.writerow(COLUMNS)
        for row in worklist_rows(state, context):
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            fields = {**row, "probabilities": json.dumps(row["probabilities"]) if row["probabilities"] else None}
            for name in _EXTERNAL_COLUMNS:
                fields[name] = escape_formula(row[name] or "")
            sheet.writerow(["" if value is None else value for value in fields.values()])


def escape_formula(text: str) -> str:
    """A CSV field that no spreadsheet runs as a formula: an apostrophe precedes what begins like one.

    Source:
        OWASP, CSV injection.

    Example:
        >>> escape_formula("=1+1"), escape_formula("A-12")
        ("'=1+1", 'A-12')
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def worklist_figures(state: ReconcileState, *, capacity: int | None, count_cost: float | None) -> dict:
    """Figures of a worklist, JSON-ready.

    Args:
        state: The bins, with their verdicts.
        capacity: How many bins can be counted, None if unlimited.
        count_cost: Cost of counting one, None if unknown.

    Returns:
        `bins`, `judged`, `verdicts`, `not_judged` (by reason), `evidence` (judged bins by what they were judged by),
        `expected_wrong` (number of wrong records among those judged), `to_count` (how many bins at the top of the
        worklist to count, None where neither limit is given), `expected_found` (number of wrong records among these),
        `expected_found_at_random` (among as many random bins), `learned_from` (bins that the model may have been
        trained on) and the yield `curve`.
    """
    ranked = np.fromiter((row[0] for row in state.ranked("probability") if row[0] is not None), dtype=float)
    to_count: int | None = None
    if capacity is not None:
        to_count = min(capacity, len(ranked))
    elif count_cost is not None:
        to_count = state.count("cost > ?", count_cost)
    expected = float(ranked.sum())
    at_random = expected * (to_count or 0) / max(1, len(ranked))
    verdicts = state.tally("verdict")
    return {
        "bins": state.count("1"),
        "judged": len(ranked),
        "verdicts": {name: verdicts.get(name, 0) for name in (MISMATCH, MATCH, UNSURE, NOT_COUNTABLE)},
        "not_judged": not_judged(state),
        "evidence": state.tally("CASE WHEN probability IS NOT NULL THEN evidence END"),
        "expected_wrong": round(expected, 3),
        "to_count": to_count,
        "expected_found": None if to_count is None else round(float(ranked[:to_count].sum()), 3),
        "expected_found_at_random": None if to_count is None else round(at_random, 3),
        "learned_from": state.count("learned"),
        "curve": yield_curve(ranked),
    }


def not_judged(state: ReconcileState) -> dict[str, int]:
    """Number of bins without a verdict by reason, each bin under one reason."""
    reasons = state.tally(_NOT_JUDGED)
    rest = state.count("probability IS NULL") - sum(reasons.values())
    return {**reasons, **({"record is none of the model's counts": rest} if rest else {})}


def yield_curve(probabilities: Sequence[float] | np.ndarray) -> list[tuple[int, float]]:
    """Expected number of wrong records found by counting the first bins of a list.

    Args:
        probabilities: (N,) of each bin's record being wrong, in the list's order.

    Returns:
        Rising numbers of bins with the expected number found, from (0, 0) to all; at most 200 points.

    Example:
        >>> yield_curve([0.5, 0.25, 0.25])
        [(0, 0.0), (1, 0.5), (2, 0.75), (3, 1.0)]
    """
    hits = np.concatenate([[0.0], np.cumsum(probabilities)])
    # Points are densest near the start, where the curve bends and people count.
    numbers = np.unique(np.round((len(hits) - 1) * np.linspace(0, 1, _CURVE_POINTS) ** 2).astype(int))
    numbers = numbers if len(hits) > _CURVE_POINTS else np.arange(len(hits))
    return [(int(number), round(float(hits[number]), 6)) for number in numbers]
