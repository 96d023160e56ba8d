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
    ("recorded", "quantities"),
    [(6.0, (4, 2)), ("6", ("4", 2.0)), (" 6 ", (6,)), ("6.000", ("+6",)), (6, ("4.0", "2."))],
)
def test_whole_numbers_are_read_however_they_are_written(recorded, quantities):
    found = parse_metadata("00523", metadata(recorded, *quantities)).recorded
    assert (found, type(found)) == (6, int)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "must be JSON"),
        (b"\xff\xfe", "must be JSON"),
        (b"[" * 100_000, "must be JSON"),
        (b"[]", "must be a JSON object"),
        (metadata(-1), "EXPECTED_QUANTITY must be a whole number >= 0, got -1"),
        (metadata(1.5, 1.5), "EXPECTED_QUANTITY must be a whole number >= 0, got 1.5"),
        (metadata("1.5", 1), "EXPECTED_QUANTITY must be a whole number >= 0, got '1.5'"),
        (metadata("three", 3), "EXPECTED_QUANTITY must be a whole number >= 0, got 'three'"),
        (metadata("", 0), "EXPECTED_QUANTITY must be a whole number >= 0, got ''"),
        (metadata("-3", 3), "EXPECTED_QUANTITY must be a whole number >= 0, got '-3'"),
        (metadata(float("nan"), 3), "EXPECTED_QUANTITY must be a whole number >= 0, got nan"),
        (metadata(float("inf"), 3), "EXPECTED_QUANTITY must be a whole number >= 0, got inf"),
        (metadata(1e300, 3), "EXPECTED_QUANTITY must be a whole number >= 0, got 1e"),
        (metadata(None), "EXPECTED_QUANTITY must be a whole number >= 0, got None"),
        (metadata(3, 1.5, 1.5), "every quantity must be a whole number"),
        (metadata(3, "2", "x"), "every quantity must be a whole number"),
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
