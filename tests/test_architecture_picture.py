"""The picture in docs/architecture.md is drawn from the code, and from the code of now."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "docs" / "draw_architecture.py")
drawing = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drawing)


def test_the_picture_is_current():
    assert drawing.PICTURE.read_text() == drawing.draw(*drawing.read_code()), "run python docs/draw_architecture.py"


def test_another_import_is_another_picture():
    arrows, libraries = drawing.read_code()
    assert ("steps", "edge") in arrows
    assert ("learn", "edge") not in arrows
    assert drawing.draw(arrows - {("steps", "edge")}, libraries) != drawing.draw(arrows, libraries)
