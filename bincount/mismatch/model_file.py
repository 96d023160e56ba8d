"""A learned part of a model's version as a JSON file beside the model: numbers and arrays by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bincount.errors import ConfigError, DataError
from bincount.files import read_json

T = TypeVar("T")


def write_part(path: Path, fields: Mapping[str, Any]) -> None:
    """Writes a part's fields; arrays become lists."""
    facts = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}
    path.write_text(json.dumps(facts))


def read_part(path: Path, make: Callable[[dict[str, Any]], T], *, plain: Collection[str] = ()) -> T | None:
    """Reads what `write_part` wrote.

    Args:
        path: The file.
        make: Builds the part from its fields; raises if these are not the part's fields.
        plain: Names of the fields that are not arrays; all others are passed to `make` as arrays.

    Returns:
        None if there is no such file.

    Raises:
        DataError: If the file is damaged.
    """
    if not path.exists():
        return None
    try:
        facts = read_json(path) or {}
        return make({name: value if name in plain else np.asarray(value) for name, value in facts.items()})
    except (AttributeError, ConfigError, KeyError, TypeError, ValueError):
        raise DataError(
            f"{path.name}: must be what training wrote beside the model, got a damaged file. Register the run again."
        ) from None
