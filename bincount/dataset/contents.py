"""The products on a bin's record: their quantities, sizes and weights, and what these sum to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bincount.dataset.metadata import LARGEST_COUNT, is_bin_id
from bincount.dataset.number_format import AmbiguousNumberError, number_of
from bincount.dataset.table_reader import Columns, TableReader, text_of
from bincount.errors import DataError

_INCHES = {"in": 1.0, "inch": 1.0, "inches": 1.0, "mm": 1 / 25.4, "cm": 1 / 2.54, "m": 1 / 0.0254, "ft": 12.0}
_POUNDS = {
    "lb": 1.0,
    "lbs": 1.0,
    "pound": 1.0,
    "pounds": 1.0,
    "oz": 1 / 16,
    "ounce": 1 / 16,
    "ounces": 1 / 16,
    "g": 1 / 453.59237,
    "gram": 1 / 453.59237,
    "grams": 1 / 453.59237,
    "kg": 1 / 0.45359237,
    "kilogram": 1 / 0.45359237,
    "kilograms": 1 / 0.45359237,
}
_LONGEST_IN, _HEAVIEST_LB = 500.0, 5000.0
"""Larger values are not those of a product in a bin."""

SIDES = ("length", "width", "height")


@dataclass(frozen=True, slots=True)
class Product:
    """One product on a record.

    Attributes:
        quantity: How many of it, >= 0.
        sides_in: Its three sides in inches, the longest first; None where one is not known.
        weight_lb: Weight of one in pounds; None where it is not known.
    """

    quantity: int
    sides_in: tuple[float, float, float] | None
    weight_lb: float | None

    @property
    def volume(self) -> float:
        """Volume of one in cubic inches, NaN where it is not known."""
        return math.prod(self.sides_in) if self.sides_in else math.nan

    @property
    def face(self) -> float:
        """Area of the largest face of one in square inches, NaN where it is not known."""
        return self.sides_in[0] * self.sides_in[1] if self.sides_in else math.nan


class Contents(NamedTuple):
    """The products on a record, and why values were set aside: "<value> must be …, got …" for each."""

    products: tuple[Product, ...]
    problems: tuple[str, ...] = ()


def contents_of(metadata: bytes) -> Contents:
    """Reads the products from metadata that `parse_metadata` accepts.

    A size or weight that is none is set aside with its reason; the product stays.

    Args:
        metadata: The bucket's JSON of one bin.
    """
    listed = json.loads(metadata)["BIN_FCSKU_DATA"]
    problems: list[str] = []
    products = [_product_of(number, listed[key], problems) for number, key in enumerate(sorted(listed), 1)]
    return Contents(tuple(products), tuple(problems))


def _product_of(number: int, facts: Mapping[str, Any], problems: list[str]) -> Product:
    sides = [_measure(f"product {number}: {name}", facts.get(name), _INCHES, _LONGEST_IN, problems) for name in SIDES]
    weight = _measure(f"product {number}: weight", facts.get("weight"), _POUNDS, _HEAVIEST_LB, problems)
    return product_of(int(float(facts["quantity"])), sides, weight)


def product_of(quantity: int, sides_in: Sequence[float | None], weight_lb: float | None) -> Product:
    """A product from its three sides in inches, in any order, and its weight in pounds."""
    known = [side for side in sides_in if side is not None]
    longest_first = sorted(known, reverse=True)
    sides = (longest_first[0], longest_first[1], longest_first[2]) if len(known) == len(SIDES) else None
    return Product(quantity, sides, weight_lb)


def _measure(name: str, given: object, units: Mapping[str, float], most: float, problems: list[str]) -> float | None:
    """A size or weight in its unit as inches or pounds; None, and a problem where it is given, if it is none."""
    if given is None:
        return None
    value, unit = (given.get("value"), given.get("unit")) if isinstance(given, dict) else (given, None)
    factor = units.get(str(unit).strip().lower()) if unit is not None else None
    if factor is None:
        problems.append(f"{name} must have a unit of {', '.join(units)}, got {unit!r:.40}")
        return None
    try:
        number = float(value) * factor  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= most:
        problems.append(
            f"{name} must be above 0 and at most {most:g} {next(iter(units))}, got {value!r:.40} {unit!r:.40}"
        )
        return None
    return number


CONTENTS_COLUMNS = Columns(
    titles={name: (name,) for name in ("id", "product", "quantity", *SIDES, "weight", "size_unit", "weight_unit")},
    required=("id", "product", "quantity"),
    numeric=("quantity", *SIDES, "weight"),
)
"""Of a file of contents, a row a product; sizes are in inches and weights in pounds unless a unit is given."""


def contents_rows(table: TableReader) -> Iterator[tuple[str, str, Product, tuple[str, ...]]]:
    """Reads a file with `CONTENTS_COLUMNS`: the bin's id, the product's name, the product and its problems.

    Raises:
        DataError: If an id or a quantity is none, or the file is damaged.
    """
    marks = table.decimal_marks()
    for line, values in table.rows():
        where = f"{table.name}, line {line}"
        problems: list[str] = []
        bin_id, quantity = text_of(values["id"]), number_of(values["quantity"], marks["quantity"])
        if not is_bin_id(bin_id) or quantity is None or not 0 <= quantity <= LARGEST_COUNT or quantity != int(quantity):
            raise DataError(
                f"{where}: must hold a bin's id and a whole quantity >= 0, got {bin_id[:40]!r} and "
                f"{text_of(values['quantity'])[:40]!r}. Fix the row, or leave the bin out."
            )
        product = text_of(values["product"])
        measures = [
            _measured(product, name, values, marks, text_of(values.get("size_unit")) or "in", problems)
            for name in SIDES
        ]
        weight = _measured(product, "weight", values, marks, text_of(values.get("weight_unit")) or "lb", problems)
        yield bin_id, product, product_of(int(quantity), measures, weight), tuple(problems)


def _measured(
    product: str,
    name: str,
    values: Mapping[str, object],
    marks: Mapping[str, str | None],
    unit: str,
    problems: list[str],
) -> float | None:
    if not text_of(values.get(name)):
        return None
    try:
        number = number_of(values[name], marks.get(name))
    except AmbiguousNumberError:
        number = None
    units, most = (_POUNDS, _HEAVIEST_LB) if name == "weight" else (_INCHES, _LONGEST_IN)
    given = {"value": text_of(values[name]) if number is None else number, "unit": unit}
    return _measure(f"product {product[:40]!r}: {name}", given, units, most, problems)


def encode_contents(products: Iterable[Product]) -> str:
    """Products as compact JSON, which `decode_contents` reads."""
    return json.dumps([[product.quantity, product.sides_in, product.weight_lb] for product in products])


def decode_contents(text: str) -> tuple[Product, ...]:
    """Reads what `encode_contents` wrote."""
    return tuple(Product(quantity, sides and tuple(sides), weight) for quantity, sides, weight in json.loads(text))


SUMS = ("log_volume", "log_face", "log_weight", "log_products", "log_largest")
"""What `sums_of` gives of the products of a record: logarithms of 1 plus the volume in cubic inches, the area of all
largest faces in square inches, the weight in pounds, the number of products, and the volume of the largest one."""


def sums_of(products: Iterable[Product]) -> np.ndarray:
    """What the products of a record sum to, (5,) float32 in the order of `SUMS`; NaN where a size is not known.

    Example:
        >>> [round(float(value), 3) for value in sums_of([Product(2, (4.0, 3.0, 2.0), 0.5)])]
        [3.892, 3.219, 0.693, 0.693, 3.219]
    """
    there = [product for product in products if product.quantity]
    volume = sum(product.quantity * product.volume for product in there)
    face = sum(product.quantity * product.face for product in there)
    weight = sum(product.quantity * (math.nan if product.weight_lb is None else product.weight_lb) for product in there)
    volumes = [product.volume for product in there]
    largest = math.nan if any(map(math.isnan, volumes)) else max(volumes, default=0.0)
    return np.log1p(np.array([volume, face, weight, len(there), largest], np.float32))
