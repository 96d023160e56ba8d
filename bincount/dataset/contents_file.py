"""The products on records, read from the rows of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bincount.dataset.contents import SIDES, Product, inches_of, pounds_of, product_of
from bincount.dataset.metadata import LARGEST_COUNT, is_bin_id
from bincount.dataset.number_format import AmbiguousNumberError, number_of
from bincount.dataset.table_reader import Columns, TableReader, text_of
from bincount.errors import DataError

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
        product, unit = text_of(values["product"]), text_of(values.get("size_unit")) or "in"
        sides = [
            inches_of(f"product {product[:40]!r}: {name}", _given(name, values, marks, unit), problems)
            for name in SIDES
        ]
        heavy = _given("weight", values, marks, text_of(values.get("weight_unit")) or "lb")
        weight = pounds_of(f"product {product[:40]!r}: weight", heavy, problems)
        yield bin_id, product, product_of(int(quantity), sides, weight), tuple(problems)


def _given(
    name: str, values: Mapping[str, object], marks: Mapping[str, str | None], unit: str
) -> dict[str, object] | None:
    if not text_of(values.get(name)):
        return None
    try:
        number = number_of(values[name], marks.get(name))
    except AmbiguousNumberError:
        number = None
    return {"value": text_of(values[name]) if number is None else number, "unit": unit}
