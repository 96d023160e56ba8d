"""Publishes a worklist: its files, and a report page that opens from disk without a network."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup
from PIL import Image

from bincount.dataset.bin_reader import Photo, photo_of
from bincount.dataset.keys import bin_id_of, photo_key
from bincount.dataset.metadata import is_bin_id
from bincount.errors import ConfigError
from bincount.files import sha256_of_file
from bincount.learn.images import TURNS
from bincount.outcomes.confirmed import Confirmed
from bincount.outcomes.decay import RATE_FACTOR
from bincount.reconcile.report_pictures import ReportPictures, heat_of, report_pictures_of
from bincount.reconcile.state import ReconcileState
from bincount.reconcile.worklist import WorklistContext, worklist_rows, write_worklist
from bincount.store.interface import Store

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor

MAX_ROWS, MAX_PHOTOS, MAX_COUNTED, MAX_EXPLAINED = 1000, 200, 2000, 50
"""Rows of the report, photos in it or in the count sheet (about 4 MB), bins on a count sheet, and bins whose
pictures are in the report (about 1 MB, and 27 forward passes each)."""
MAX_COUNTED_WORKLISTS = 20
"""Earlier worklists of which the report shows what counting found."""

_HERE = Path(__file__).parent
_TEMPORARY_PREFIX = ".worklist-"
_WORKERS = 16
_PHOTO_SIZE_PX, _SIMILAR_SIZE_PX = 360, 160
_JPEG_QUALITY = 72
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 588, 14, 280  # of the plot, in the drawing's units
_SHARES = (0.01, 0.02, 0.05, 0.10, 0.20)


def make_folder(folder: Path) -> None:
    """Creates the folder if it is missing.

    Raises:
        ConfigError: If it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out: {folder} must be a writable folder, got {error.strerror!r}. Name another."
        ) from error


def publish(
    state: ReconcileState,
    store: Store,
    predictor: Predictor,
    context: WorklistContext,
    summary: dict,
    folder: Path,
    *,
    confirmed: Sequence[Confirmed] = (),
) -> None:
    """Writes every file under a temporary name, then renames it; the summary comes last.

    Args:
        state: The bins, with their verdicts.
        store: Where the photos are.
        predictor: The model.
        context: What is the same for all bins.
        summary: Content of `summary.json`; gets `worklist`, the digest of `worklist.jsonl`.
        folder: Gets `worklist.csv`, `worklist.jsonl`, `report.html` and `summary.json`.
        confirmed: Counted bins, the latest first, for the report to show similar ones.
    """
    for left in folder.glob(f"{_TEMPORARY_PREFIX}*"):  # of a killed attempt
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY_PREFIX, dir=folder) as created:
        temporary = Path(created)
        write_worklist(state, context, temporary)
        summary["worklist"] = sha256_of_file(temporary / "worklist.jsonl")[:16]  # outcomes are stored under this digest
        if summary["blind"]:
            to_count = MAX_COUNTED if summary["to_count"] is None else min(MAX_COUNTED, summary["to_count"])
            rows = list(worklist_rows(state, context, limit=to_count))
            page = render_count_sheet(summary, rows, reduced_photos(store, _pictured(rows)), context)
        else:
            rows = list(worklist_rows(state, context, limit=MAX_ROWS))
            ids = _pictured(rows)
            explained = _pictured(rows[: summary["to_count"]])[:MAX_EXPLAINED]
            pictures = report_pictures_of(store, predictor, explained, confirmed)
            ids += sorted({bin_id_of(row["before"]) for row in rows[:MAX_PHOTOS] if row["before"]} - set(ids))
            page = render_report(
                summary, rows, reduced_photos(store, ids), context, pictures, _similar_photos(store, pictures)
            )
        (temporary / "report.html").write_text(page, encoding="utf-8")
        (temporary / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
        for name in ("worklist.csv", "worklist.jsonl", "report.html", "summary.json"):
            os.replace(temporary / name, folder / name)


def _pictured(rows: Sequence[Mapping]) -> list[str]:
    """Ids of the bins whose photos are in the page."""
    return [row["id"] for row in rows[:MAX_PHOTOS] if row["photo"] and is_bin_id(row["id"])]


def _similar_photos(store: Store, pictures: ReportPictures) -> dict[str, bytes]:
    ids = sorted({each.photo for similar in pictures.similar.values() for each in similar})
    return reduced_photos(store, ids, size_px=_SIMILAR_SIZE_PX)


def reduced_photos(store: Store, ids: Sequence[str], *, size_px: int = _PHOTO_SIZE_PX) -> dict[str, bytes]:
    """Fetches photos and reduces them; unusable ones are left out.

    Args:
        store: Where they are.
        ids: Bins' ids.
        size_px: Longest side afterwards.

    Returns:
        A JPEG by id, of about 12 kB at 360 px.

    Raises:
        StoreError: If the source does not answer.
    """
    thumbnails = {}
    keys = map(photo_key, ids)
    with closing(store.fetch(keys, workers=_WORKERS)) as answers:
        for bin_id, answer in zip(ids, answers, strict=True):
            photo = photo_of(bin_id, answer)
            if isinstance(photo, Photo) and (small := _reduced(photo, size_px)):
                thumbnails[bin_id] = small
    return thumbnails


def _reduced(photo: Photo, size_px: int) -> bytes | None:
    try:
        with Image.open(io.BytesIO(photo.data), formats=["JPEG", "PNG"]) as image:
            image.draft("RGB", (size_px, size_px))
            small = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail((size_px, size_px))
    if photo.header.orientation in TURNS:  # not by Pillow, which fails at other values of a damaged EXIF block
        small = small.transpose(TURNS[photo.header.orientation])
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


def render_report(
    summary: Mapping,
    rows: Sequence[Mapping],
    photos: Mapping[str, bytes],
    context: WorklistContext,
    pictures: ReportPictures,
    similar_photos: Mapping[str, bytes],
) -> str:
    """Renders the page. All text from outside is escaped, and the page's policy forbids any other script.

    Args:
        summary: Content of `summary.json`.
        rows: The first rows of the worklist.
        photos: Reduced JPEGs of some of them, by id.
        context: What is the same for all of them.
        pictures: For some of them.
        similar_photos: Smaller JPEGs of the counted bins in the pictures, by id.
    """
    names = dict(zip(context.counts.values, context.counts.names, strict=True))

    def thumbnail(bin_id: str) -> str:
        return _base64(photos.get(bin_id, b""))

    def similar(bin_id: str) -> list[dict]:
        counted = pictures.similar.get(bin_id, [])
        there = [each for each in counted if each.photo in similar_photos]
        return [{**each._asdict(), "thumbnail": _base64(similar_photos[each.photo])} for each in there]

    shown = [
        {
            **row,
            "shows": names.get(row["predicted"], ""),
            "thumbnail": thumbnail(row["id"]),
            "thumbnail_before": thumbnail(bin_id_of(row["before"])) if row["before"] else "",
            "heat": _base64(heat_of(pictures.falls[row["id"]])) if row["id"] in pictures.falls else "",
            "similar": similar(row["id"]),
        }
        for row in rows
    ]
    return _render(
        "report",
        summary=summary,
        rows=shown,
        photos=len(photos),
        about=asdict(context) | {"counts": str(context.counts)},
        plot=_plot(summary),
        yields=_yields(summary),
        decay=summary["decay"][-MAX_COUNTED_WORKLISTS:],
        rate_factor=RATE_FACTOR,
    )


def render_count_sheet(
    summary: Mapping, rows: Sequence[Mapping], photos: Mapping[str, bytes], context: WorklistContext
) -> str:
    """Renders the page for whoever counts: bins by location, and neither records nor predictions.

    Args:
        summary: Content of `summary.json`.
        rows: The first rows of the worklist.
        photos: Reduced JPEGs of some of them, by id.
        context: What is the same for all of them.
    """
    bins = [
        {
            "id": row["id"],
            "location": row["location"],
            "thumbnail": _base64(photos.get(row["id"], b"")),
        }
        for row in sorted(rows, key=lambda row: (_natural(row["location"]), _natural(row["id"])))
        if is_bin_id(row["id"])
    ]
    return _render("count_sheet", rows=bins, worklist=summary["worklist"], source=context.source)


def _natural(text: str) -> list[tuple[int, str]]:
    """A sort key by which A-9 comes before A-10, whatever number of digits stands in the text."""
    parts = enumerate(re.split(r"0*([0-9]+)", text or ""))  # every other one is a number
    return [(len(part), part) if at % 2 else (-1, part) for at, part in parts]


def _render(name: str, **values: Any) -> str:
    """Renders a template with its style and script; the page's policy forbids any other."""
    style, script = (_HERE / f"{name}.css").read_text(), (_HERE / f"{name}.js").read_text()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"number": "{:,}".format, "items": _items, "percent": _percent}
    return environment.get_template(f"{name}.html.jinja").render(
        **values,
        style=Markup(style),  # noqa: S704 our own file
        script=Markup(script),  # noqa: S704 our own file
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _hash(text: str) -> str:
    return f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}"


def _items(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def _plot(summary: Mapping) -> dict:
    """Coordinates of the curve's points, the cut and the ticks."""
    bins, most = max(1, summary["judged"]), summary["curve"][-1][1]
    high = _axis_end(most)

    def x(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * value / bins, 1)

    def y(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * value / high, 1)

    anchors = ("start", "middle", "end")
    cut = summary["to_count"]
    return {
        "points": " ".join(f"{x(at)},{y(hits)}" for at, hits in summary["curve"]),
        "top": y(most),
        "cut": None if cut is None else min(x(cut), _RIGHT - 120),
        "x_ticks": [
            {"at": x(bins * half / 2), "text": f"{bins * half / 2:,.0f}", "anchor": anchors[half]} for half in range(3)
        ],
        "y_ticks": [{"at": y(high * half / 2), "text": f"{high * half / 2:,.3g}"} for half in range(3)],
    }


def _axis_end(most: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten, 0.001 at least, that is not below `most`."""
    power = 10.0 ** math.floor(math.log10(max(most, 1e-3)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= most)


def _yields(summary: Mapping) -> list[dict]:
    """Expected number found by counting some shares of the bins; the curve is linear between its points."""
    curve, judged = summary["curve"], summary["judged"]
    rows = []
    for bins in sorted({max(1, round(share * judged)) for share in _SHARES} if judged else ()):
        after = next(index for index, (at, _) in enumerate(curve) if at >= bins)
        (left, low), (right, high) = curve[after - 1], curve[after]
        hits = low + (high - low) * (bins - left) / (right - left)
        rows.append({"bins": bins, "share": bins / judged, "found": hits, "at_random": curve[-1][1] * bins / judged})
    return rows
