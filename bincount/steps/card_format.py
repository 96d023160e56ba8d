"""What a card is made of, and how it is written as Markdown and as HTML."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path

_STYLE = """<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #8884; }
td { font-variant-numeric: tabular-nums; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; background: white; }
figcaption { font-size: 0.85rem; opacity: 0.8; }
</style>"""


@dataclass(frozen=True)
class Heading:
    """A title, of level 1 or 2."""

    level: int
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells below their titles."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A PNG file beside the card."""

    name: str
    caption: str


Block = Heading | Table | Picture | str


def to_markdown(blocks: list[Block]) -> str:
    """Writes blocks as Markdown in which nothing from outside is markup."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def to_html(blocks: list[Block], folder: Path) -> str:
    """Writes blocks as one HTML page with its pictures inside, everything else escaped."""
    body = "\n".join(_html(block, folder) for block in blocks)
    title = html.escape(next(block.text for block in blocks if isinstance(block, Heading)))
    return f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n{_STYLE}\n{body}\n</html>\n'


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_plain(block.text)}"
    if isinstance(block, Picture):
        return f"![{_plain(block.caption)}]({block.name})"
    if isinstance(block, Table):
        lines = [block.titles, ("---",) * len(block.titles), *block.rows]
        return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)
    return _plain(block)


def _plain(text: str) -> str:
    for mark in "\\`*_[]|":
        text = text.replace(mark, f"\\{mark}")
    return html.escape(text, quote=False).replace("\n", " ")


def _html(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Picture):
        data = base64.b64encode((folder / block.name).read_bytes()).decode()
        caption = html.escape(block.caption)
        return (
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    if isinstance(block, Table):
        head = "".join(f"<th>{html.escape(title)}</th>" for title in block.titles)
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>\n" for row in block.rows)
        return f"<table><tr>{head}</tr>\n{rows}</table>"
    return f"<p>{html.escape(block)}</p>"
