"""The products on a record: units, missing and impossible values, and what they sum to."""

import json
import math

import numpy as np
import pytest

from bincount.dataset.contents import SUMS, Product, contents_of, decode_contents, encode_contents, sums_of

INCHES = {"length": 4.0, "width": 2.0, "height": 3.0}


def metadata_of(*products):
    listed = {f"B{number}": product for number, product in enumerate(products)}
    return json.dumps({"EXPECTED_QUANTITY": 1, "BIN_FCSKU_DATA": listed}).encode()


def product_in(unit, factor=1.0, *, weight=(0.5, "pounds"), quantity=2, **changed):
    sides = {name: {"unit": unit, "value": value * factor} for name, value in INCHES.items()}
    return {"quantity": quantity, "weight": {"value": weight[0], "unit": weight[1]}, **sides} | changed


@pytest.mark.parametrize(
    "product",
    [
        product_in("IN"),
        product_in("mm", 25.4, weight=(226.796185, "grams")),
        product_in("CM", 2.54, weight=(0.226796185, "kg")),
        product_in("inches", weight=(8, "ounces")),
    ],
)
def test_sizes_and_weights_are_converted(product):
    (read,) = contents_of(metadata_of(product))
    assert read.size_problem == read.weight_problem == ""
    assert read.quantity == 2
    assert read.sides_in == pytest.approx((4.0, 3.0, 2.0))
    assert read.weight_lb == pytest.approx(0.5)
    assert (read.volume, read.face) == pytest.approx((24.0, 12.0))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"unit": "IN", "value": 0}, "above 0"),
        ({"unit": "IN", "value": -3}, "above 0"),
        ({"unit": "IN", "value": math.nan}, "above 0"),
        ({"unit": "IN", "value": "long"}, "above 0"),
        ({"unit": "IN", "value": 1e9}, "at most 500 in"),
        ({"unit": "IN", "value": 10**400}, "at most 500 in"),
        ({"unit": "cubits", "value": 3}, "must have a unit of in"),
        (3, "must have a unit"),
    ],
)
def test_a_value_that_is_no_size_is_set_aside_and_the_product_stays(value, reason):
    wrong, right = contents_of(metadata_of(product_in("IN", length=value), product_in("IN")))
    assert (wrong.sides_in is None, right.sides_in is None) == (True, False)
    assert wrong.size_problem.startswith("length must ")
    assert reason in wrong.size_problem
    assert wrong.weight_problem == right.size_problem == right.weight_problem == ""


def test_a_value_that_is_no_weight_is_set_aside_and_the_size_stays():
    (read,) = contents_of(metadata_of(product_in("IN", weight=(-1, "pounds"))))
    assert (read.sides_in, read.weight_lb, read.size_problem) == ((4.0, 3.0, 2.0), None, "")
    assert read.weight_problem == "weight must be above 0 and at most 5000 lb, got -1 'pounds'"


def test_products_are_read_as_they_were_written():
    products = contents_of(metadata_of(product_in("IN", length=3), product_in("IN"), {"quantity": 0}))
    assert decode_contents(encode_contents(products)) == products


def test_a_record_without_any_size_has_products_and_no_problem():
    contents = contents_of(metadata_of({"quantity": 3}))
    assert contents == (Product(3, None, None),)
    sums = dict(zip(SUMS, sums_of(contents), strict=True))
    assert sums["log_products"] == pytest.approx(math.log(2))
    assert all(np.isnan(value) for name, value in sums.items() if name != "log_products")


def test_the_sums_of_many_products_and_of_none():
    box = Product(1, (10.0, 10.0, 10.0), 2.0)
    assert sums_of([]) == pytest.approx(np.zeros(5))
    assert sums_of([box] * 500)[0] == pytest.approx(math.log1p(500_000), rel=1e-5)
    # What is recorded with the quantity 0 is not there.
    assert sums_of([box, Product(0, None, None)]) == pytest.approx(sums_of([box]))
