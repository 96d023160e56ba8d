"""Draws docs/pictures/architecture.svg from what the code really imports.

python docs/draw_architecture.py          writes the picture
tests/test_architecture_picture.py        says when it is no longer the code's
"""

from __future__ import annotations

import ast
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"

WIDTH, HEIGHT, BOX_HEIGHT = 1000, 730, 88
_LINE = 40  # characters of libraries that fit
# Left, top, width and what a folder is for; the rows are the layers.
BOXES = {
    "cli": (590, 15, 250, "what a person types"),
    "dags": (15, 160, 230, "when to run: Airflow"),
    "serving": (260, 160, 230, "the model server"),
    "local": (505, 160, 230, "the one-machine stack"),
    "server": (750, 160, 235, "around docker-compose.yml"),
    "steps": (340, 315, 320, "verbs: ingest … reconcile"),
    "learn": (100, 470, 320, "tensors"),
    "edge": (580, 470, 320, "buckets, MLflow, environment"),
    "core": (340, 625, 320, "facts and rules"),
}
COLOURS = dict(
    zip(
        BOXES,
        ("#b45309", "#0f766e", "#7c3aed", "#be123c", "#9d174d", "#1d4ed8", "#15803d", "#a16207", "#475569"),
        strict=True,
    )
)


def folder_of(path: Path) -> str:
    """The box that a file belongs to; what lies beside `cli.py` belongs to it."""
    if path.parts[0] == "dags":
        return "dags"
    return path.parts[1] if len(path.parts) > 2 else "cli"


def imports_of(source: str) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "bincount":
                yield from (f"bincount.{alias.name}" for alias in node.names)
            else:
                yield node.module


def read_code() -> tuple[set[tuple[str, str]], dict[str, set[str]]]:
    """Who imports whom among the boxes, and which libraries each box imports."""
    arrows: set[tuple[str, str]] = set()
    libraries: dict[str, set[str]] = defaultdict(set)
    beside = {path.stem for path in (ROOT / "dags").glob("*.py")}
    for place in ("bincount", "dags"):
        for path in sorted((ROOT / place).rglob("*.py")):
            own = folder_of(path.relative_to(ROOT))
            for module in imports_of(path.read_text()):
                first, _, rest = module.partition(".")
                if first == "bincount":
                    target = rest.split(".")[0]
                    target = target if target in BOXES else "cli"
                    if target != own:
                        arrows.add((own, target))
                elif first not in sys.stdlib_module_names and first not in beside:
                    libraries[own].add(first)
    return arrows, libraries


def draw(arrows: set[tuple[str, str]], libraries: dict[str, set[str]]) -> str:
    """The picture as SVG: the same imports, the same bytes."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    order = list(BOXES)
    placed = sorted(arrows, key=lambda arrow: (order.index(arrow[0]), order.index(arrow[1])))
    parts += [_arrow(source, target, placed) for source, target in placed]
    parts += [_box(name, sorted(libraries.get(name, ()))) for name in order]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _arrow(source: str, target: str, arrows: list[tuple[str, str]]) -> str:
    """A curve from the lower edge of one box to the upper edge of another, each at a place of its own."""
    x1, y1 = _place(source, [arrow for arrow in arrows if arrow[0] == source], (source, target), own=0)
    x2, y2 = _place(target, [arrow for arrow in arrows if arrow[1] == target], (source, target), own=1)
    y1, bend = y1 + BOX_HEIGHT, (y2 - y1 - BOX_HEIGHT) / 2
    colour = COLOURS[source]
    return (
        f'<path d="M{x1:.0f} {y1} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2 - 6}" fill="none" '
        f'stroke="{colour}" stroke-width="1.6" opacity="0.75"/>'
        f'<path d="M{x2 - 4:.0f} {y2 - 9} L{x2:.0f} {y2 - 1} L{x2 + 4:.0f} {y2 - 9} Z" fill="{colour}"/>'
    )


def _place(name: str, arrows: list[tuple[str, str]], arrow: tuple[str, str], *, own: int) -> tuple[float, int]:
    left, top, width, _ = BOXES[name]
    by_other = sorted(arrows, key=lambda each: BOXES[each[1 - own]][0] + BOXES[each[1 - own]][2] / 2)
    return left + width * (by_other.index(arrow) + 1) / (len(by_other) + 1), top


def _box(name: str, libraries: list[str]) -> str:
    left, top, width, purpose = BOXES[name]
    middle, title = left + width / 2, "cli.py" if name == "cli" else f"{name}/"
    used = ", ".join(libraries) or "the standard library"
    words = [(26, 17, "bold", title), (46, 13, "normal", purpose)]
    words += [(63 + 14 * row, 11, "normal", line) for row, line in enumerate(textwrap.wrap(used, _LINE))]
    texts = "".join(
        f'<text x="{middle:.0f}" y="{top + y}" font-size="{size}" font-weight="{weight}" text-anchor="middle" '
        f'fill="#111">{escape(text)}</text>'
        for y, size, weight, text in words
    )
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{BOX_HEIGHT}" rx="8" fill="#f8fafc" '
        f'stroke="{COLOURS[name]}" stroke-width="2"/>{texts}'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(*read_code()))
