"""The products on records, read from the rows of a file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bincount.dataset.contents import SIDES, Product, product_of
from bincount.dataset.metadata import LARGEST_COUNT, is_bin_id
from bincount.dataset.number_format import AmbiguousNumberError, number_of
from bincount.dataset.table_reader import Columns, TableReader, text_of

CONTENTS_COLUMNS = Columns(
    titles={name: (name,) for name in ("id", "product", "quantity", *SIDES, "weight", "size_unit", "weight_unit")},
    required=("id", "product", "quantity"),
    numeric=("quantity", *SIDES, "weight"),
)
"""Of a file of contents, a row a product; sizes are in inches and weights in pounds unless a unit is given."""

_SAME_WITHIN = 0.01  # values in other units are rounded


@dataclass(frozen=True, slots=True)
class ContentsRow:
    """One product on a bin's record.

    Attributes:
        line: Its line in the file; of parquet the row's number.
        bin_id: The bin's id, "" where it is not valid.
        name: The product's; it is compared with others and never shown.
        product: Quantity, size and weight; None where the quantity is not valid.
        problem: Why the quantity is not valid, "" where it is.
    """

    line: int
    bin_id: str
    name: str
    product: Product | None
    problem: str = ""


def contents_rows(table: TableReader) -> Iterator[ContentsRow]:
    """Reads the rows of a file with `CONTENTS_COLUMNS`.

    Raises:
        DataError: If the file is damaged.
    """
    marks = table.decimal_marks()
    for line, values in table.rows():
        bin_id, name = text_of(values["id"]), text_of(values["product"])
        bin_id = bin_id if is_bin_id(bin_id) else ""
        quantity = _number("quantity", values, marks)
        if isinstance(quantity, str) or not 0 <= quantity <= LARGEST_COUNT or quantity != int(quantity):
            rule = f"must be a whole number from 0 to {LARGEST_COUNT}, got {quantity!r:.40}"
            yield ContentsRow(line, bin_id, name, None, f"quantity in line {line} {rule}")
            continue
        units = dict.fromkeys(SIDES, text_of(values.get("size_unit")) or "in")
        units["weight"] = text_of(values.get("weight_unit")) or "lb"
        given = {
            field: {"value": _number(field, values, marks), "unit": unit}
            for field, unit in units.items()
            if text_of(values.get(field))
        }
        yield ContentsRow(line, bin_id, name, product_of(int(quantity), given, place=f" in line {line}"))


def _number(field: str, values: Mapping[str, object], marks: Mapping[str, str | None]) -> float | str:
    """The number in a field; its text where it is no number, and both readings where its mark may be of two kinds."""
    try:
        number = number_of(values[field], marks.get(field))
    except AmbiguousNumberError as error:
        return " or ".join(error.readings)
    return text_of(values[field]) if number is None else float(number)


def joined(products: Mapping[int, Product]) -> Product:
    """The product that several rows of a bin name: quantities are summed, and a known value wins over an unknown one.

    A size or weight that differs by more than 1 % between two rows is not known, with the reason.

    Args:
        products: By the line of its row.

    Example:
        >>> small, unknown, large = (Product(1, sides, 0.5) for sides in ((5.0, 5.0, 5.0), None, (9.0, 5.0, 5.0)))
        >>> joined({2: small, 3: unknown}) == Product(2, (5.0, 5.0, 5.0), 0.5)
        True
        >>> joined({2: small, 3: large}).size_problem
        'size must be the same in lines 2 and 3, got 5 x 5 x 5 and 9 x 5 x 5 in'
    """
    sizes = {line: product.sides_in for line, product in products.items() if product.sides_in}
    weights = {line: product.weight_lb for line, product in products.items() if product.weight_lb}
    size_problem = _difference("size", sizes, "in")
    weight_problem = _difference("weight", {line: (weight,) for line, weight in weights.items()}, "lb")
    wrong_sizes = (product.size_problem for product in products.values() if not sizes and product.size_problem)
    wrong_weights = (product.weight_problem for product in products.values() if not weights and product.weight_problem)
    return Product(
        sum(product.quantity for product in products.values()),
        None if size_problem else next(iter(sizes.values()), None),
        None if weight_problem else next(iter(weights.values()), None),
        size_problem or next(wrong_sizes, ""),
        weight_problem or next(wrong_weights, ""),
    )


def _difference(name: str, values: Mapping[int, tuple[float, ...]], unit: str) -> str:
    """The first two lines that differ and their values, "" where none do."""
    first = next(iter(values), 0)
    for line, value in values.items():
        pairs = zip(values[first], value, strict=True)
        if not all(math.isclose(one, other, rel_tol=_SAME_WITHIN) for one, other in pairs):
            shown = " and ".join(" x ".join(f"{side:.4g}" for side in values[at]) for at in (first, line))
            return f"{name} must be the same in lines {first} and {line}, got {shown} {unit}"
    return ""
