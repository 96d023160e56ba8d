import json

import pytest

from bincount.dataset.metadata import is_bin_id, parse_metadata
from bincount.errors import DataError


def metadata(recorded, *quantities):
    products = {f"B{number:03}": {"quantity": quantity} for number, quantity in enumerate(quantities)}
    return json.dumps({"BIN_FCSKU_DATA": products, "EXPECTED_QUANTITY": recorded}).encode()


def test_reads_count_and_products():
    found = parse_metadata("00523", metadata(6, 4, 2))
    assert (found.recorded, found.skus) == (6, ("B000", "B001"))
    assert parse_metadata("00001", metadata(0)).skus == ()


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "must be JSON"),
        (b"\xff\xfe", "must be JSON"),
        (b"[" * 100_000, "must be JSON"),
        (b"[]", "must be a JSON object"),
        (metadata(-1), "EXPECTED_QUANTITY must be a whole number >= 0, got -1"),
        (metadata(2.5, 2), "EXPECTED_QUANTITY must be a whole number >= 0, got 2.5"),
        (metadata("three", 3), "EXPECTED_QUANTITY must be a whole number >= 0, got 'three'"),
        (metadata("3.5", 3), "EXPECTED_QUANTITY must be a whole number >= 0, got '3.5'"),
        (metadata(True, 1), "EXPECTED_QUANTITY must be a whole number >= 0, got True"),
        (metadata(10**9, 10**9), "EXPECTED_QUANTITY must be a whole number"),
        (b'{"EXPECTED_QUANTITY": 0}', "BIN_FCSKU_DATA must be an object"),
        (metadata(1, -1, 2), "every quantity must be a whole number"),
        (metadata(3, 1, 1), "must be the sum of its products' quantities 2, got 3"),
    ],
)
def test_bad_metadata_is_named_with_its_rule(data, rule):
    with pytest.raises(DataError, match=rule) as caught:
        parse_metadata("104721", data)
    assert str(caught.value).startswith("metadata/104721.json: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["..", "../x", "a/b", "", "a" * 65, "a\n", ".x", "-x", "ä"])
def test_what_could_leave_a_folder_is_no_id(text):
    assert not is_bin_id(text)


@pytest.mark.parametrize("recorded", [15, 15.0, "15", "15.0"])
@pytest.mark.parametrize("quantity", [15, 15.0, "15"])
def test_a_count_may_be_written_as_a_table_writes_it(recorded, quantity):
    assert parse_metadata("1", metadata(recorded, quantity)).recorded == 15
