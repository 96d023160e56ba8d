"""The products on a bin's record: their quantities, sizes and weights, and what these sum to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass

import numpy as np

from bincount.dataset.metadata import LARGEST_COUNT
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
        size_problem: Which given side is not valid, "<side> must be …, got …"; "" where each is, or none is given.
        weight_problem: The same of the weight.
    """

    quantity: int
    sides_in: tuple[float, float, float] | None
    weight_lb: float | None
    size_problem: str = ""
    weight_problem: str = ""

    @property
    def volume(self) -> float:
        """Volume of one in cubic inches, NaN where it is not known."""
        return math.prod(self.sides_in) if self.sides_in else math.nan

    @property
    def face(self) -> float:
        """Area of the largest face of one in square inches, NaN where it is not known."""
        return self.sides_in[0] * self.sides_in[1] if self.sides_in else math.nan


def contents_of(metadata: bytes) -> tuple[Product, ...]:
    """Reads the products from metadata that `parse_metadata` accepts, in the order of their keys.

    A size or weight that is not valid is set aside with its reason; the product stays.

    Args:
        metadata: The bucket's JSON of one bin.
    """
    listed = json.loads(metadata)["BIN_FCSKU_DATA"]
    return tuple(product_of(int(float(listed[key]["quantity"])), listed[key]) for key in sorted(listed))


def product_of(quantity: int, given: Mapping[str, object], *, place: str = "") -> Product:
    """A product from its three sides, in any order, and its weight, each `{"value": …, "unit": …}` or not given.

    Args:
        quantity: How many of it.
        given: By name, `SIDES` and "weight"; other names are ignored.
        place: Where they are given, such as " in line 2", for the problem.

    Example:
        >>> product_of(2, {"length": {"value": 4, "unit": "IN"}, "weight": {"value": 8, "unit": "oz"}})
        Product(quantity=2, sides_in=None, weight_lb=0.5, size_problem='', weight_problem='')
    """
    wrong_sides: list[str] = []
    wrong_weight: list[str] = []
    sides = [_measure(side + place, given.get(side), _INCHES, _LONGEST_IN, wrong_sides) for side in SIDES]
    weight = _measure(f"weight{place}", given.get("weight"), _POUNDS, _HEAVIEST_LB, wrong_weight)
    known = sorted((side for side in sides if side is not None), reverse=True)
    return Product(
        quantity,
        (known[0], known[1], known[2]) if len(known) == len(SIDES) else None,
        weight,
        next(iter(wrong_sides), ""),
        next(iter(wrong_weight), ""),
    )


def _measure(name: str, given: object, units: Mapping[str, float], most: float, problems: list[str]) -> float | None:
    """A length in inches or a weight in pounds; None where it is not valid, and why is then added to `problems`."""
    if given is None:
        return None
    value, unit = (given.get("value"), given.get("unit")) if isinstance(given, dict) else (given, None)
    factor = units.get(str(unit).strip().lower()) if unit is not None else None
    if factor is None:
        problems.append(f"{name} must have a unit of {', '.join(units)}, got {unit!r:.40}")
        return None
    try:
        number = float(value) * factor  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):  # JSON may hold a whole number that no float holds
        number = math.nan
    if not 0 < number <= most:
        problems.append(
            f"{name} must be above 0 and at most {most:g} {next(iter(units))}, got {value!r:.40} {unit!r:.40}"
        )
        return None
    return number


MOST_PRODUCTS = 1000
"""Of one bin in a request."""


def products_of(value: object) -> tuple[Product, ...] | None:
    """Reads the contents of a request; a size or weight that is left out or not possible is not known.

    Args:
        value: A list of objects with `quantity` and, in inches and pounds, `length`, `width`, `height` and `weight`, or
            this as JSON text; None for no contents.

    Raises:
        DataError: If it is anything else.

    Example:
        >>> (product,) = products_of([{"quantity": 2, "length": 2, "width": 4, "height": 3, "weight": -1}])
        >>> product.sides_in, product.weight_lb, product.weight_problem
        ((4.0, 3.0, 2.0), None, "weight must be above 0 and at most 5000 lb, got -1 'lb'")
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        listed = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list | tuple) or len(listed) > MOST_PRODUCTS:
        raise DataError(f"contents must be a list of at most {MOST_PRODUCTS} products, got {_shown(listed)}.")
    return tuple(_product_sent(f"contents: product {number}", facts) for number, facts in enumerate(listed, 1))


def _product_sent(name: str, facts: object) -> Product:
    if not isinstance(facts, Mapping):
        raise DataError(f"{name} must be an object with quantity, {', '.join(SIDES)} and weight, got {_shown(facts)}.")
    for field in (*SIDES, "weight"):
        if facts.get(field) is not None and _number_of(facts[field]) is None:
            raise DataError(
                f"{name}: {field} must be a number, got {_shown(facts[field])}. Leave out what is not known."
            )
    quantity = _number_of(facts.get("quantity"))
    if quantity is None or not 0 <= quantity <= LARGEST_COUNT or quantity != int(quantity):
        shown = _shown(facts.get("quantity"))
        raise DataError(f"{name}: quantity must be a whole number from 0 to {LARGEST_COUNT}, got {shown}.")
    measures = {side: _with_unit(facts.get(side), "in") for side in SIDES}
    return product_of(int(quantity), measures | {"weight": _with_unit(facts.get("weight"), "lb")})


def _number_of(value: object) -> float | None:
    """The number in a field, infinite where it is a whole number that no float holds; None where it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _shown(value: object) -> str:
    """A value of a request in an error: a number as it is, of anything else the type; a text may be secret."""
    number = _number_of(value)
    return type(value).__name__ if number is None else f"{number:g}"


def _with_unit(value: object, unit: str) -> dict[str, object] | None:
    return None if value is None else {"value": value, "unit": unit}


def encode_contents(products: Iterable[Product]) -> str:
    """Products as compact JSON, which `decode_contents` reads."""
    return json.dumps([astuple(product) for product in products])


def decode_contents(text: str) -> tuple[Product, ...]:
    """Reads what `encode_contents` wrote."""
    return tuple(Product(quantity, sides and tuple(sides), *others) for quantity, sides, *others in json.loads(text))


SUMS = ("log_volume", "log_face", "log_weight", "log_products", "log_largest")
"""Sums of a record's products, as `sums_of` gives them: logarithms of 1 plus the volume in cubic inches, the area of
all largest faces in square inches, the weight in pounds, the number of products, and the volume of the largest one."""


def sums_of(products: Iterable[Product]) -> np.ndarray:
    """Sums of a record's products, (5,) float32 in the order of `SUMS`; NaN where a size is not known.

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
