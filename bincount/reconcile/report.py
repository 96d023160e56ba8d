"""The report: one page that opens from disk, needs no network and runs nothing that is not its own."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import jinja2
from markupsafe import Markup
from PIL import Image, ImageOps

from bincount.dataset.metadata import is_bin_id
from bincount.dataset.reader import PHOTOS, Photo, read_photo
from bincount.errors import ConfigError
from bincount.reconcile.state import ReconcileState
from bincount.reconcile.worklist_files import WorklistInfo, rows_of, write_lists
from bincount.store.interface import Store

MOST_ROWS, MOST_PHOTOS = 1000, 200

_HERE = Path(__file__).parent
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 588, 14, 280  # of the plot, within the drawing
_SHARES = (0.01, 0.02, 0.05, 0.10, 0.20)
_HIDDEN_IF_BLIND = (
    *("recorded", "predicted", "probabilities", "verdict", "mismatch_probability", "direction"),
    *("expected_cost", "reason", "shows"),
)


def report_of(summary: Mapping, rows: Sequence[Mapping], photos: Mapping[str, bytes], about: WorklistInfo) -> str:
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


_SIDE_PX = 360
_QUALITY = 72
_WORKERS = 16


def reduced_photos(store: Store, ids: Sequence[str]) -> dict[str, bytes]:
    """Fetches photos and reduces them to 360 px; what cannot be had by now is left out.

    Args:
        store: Where they are.
        ids: Bins' ids.

    Returns:
        A JPEG of about 12 kB by id.

    Raises:
        StoreError: If the source does not answer.
    """
    found = {}
    keys = (PHOTOS.key(bin_id) for bin_id in ids)
    with closing(store.fetch(keys, workers=_WORKERS)) as answers:
        for bin_id, answer in zip(ids, answers, strict=True):
            photo = read_photo(bin_id, answer)
            if isinstance(photo, Photo) and (small := _reduced(photo.data)):
                found[bin_id] = small
    return found


def _reduced(photo: bytes) -> bytes | None:
    try:
        with Image.open(io.BytesIO(photo), formats=["JPEG", "PNG"]) as image:
            image.draft("RGB", (_SIDE_PX, _SIDE_PX))
            small = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail((_SIDE_PX, _SIDE_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


_BESIDE = ".worklist-"


def make_folder(folder: Path) -> None:
    """Makes the folder, unless it is there.

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


def publish(work: ReconcileState, store: Store, about: WorklistInfo, summary: dict, folder: Path) -> None:
    """Writes every file beside its place, then moves it there; the summary comes last.

    Args:
        work: The bins, judged.
        store: Where the photos are.
        about: What is the same for all bins.
        summary: What `summary.json` says; gets `worklist`, the digest of `worklist.jsonl`.
        folder: Gets `worklist.csv`, `worklist.jsonl`, `report.html` and `summary.json`.
    """
    for left in folder.glob(f"{_BESIDE}*"):  # by an attempt that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_BESIDE, dir=folder) as place:
        beside = Path(place)
        write_lists(work, about, beside)
        with (beside / "worklist.jsonl").open("rb") as file:  # by this name outcomes find it again
            summary["worklist"] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        asked = summary["to_count"] if summary["blind"] else None
        rows = list(rows_of(work, about, limit=MOST_ROWS if asked is None else min(MOST_ROWS, asked)))
        ids = [row["id"] for row in rows[:MOST_PHOTOS] if row["photo"] and is_bin_id(row["id"])]
        page = report_of(summary, rows, reduced_photos(store, ids), about)
        (beside / "report.html").write_text(page, encoding="utf-8")
        (beside / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
        for name in ("worklist.csv", "worklist.jsonl", "report.html", "summary.json"):
            os.replace(beside / name, folder / name)
