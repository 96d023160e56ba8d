import json

import pytest

from bincount.dataset.ids import check_padding, counterpart_of, ids_in_range, parse_ids
from bincount.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("00523\n523\n\n100001\n00523\n", ["00523", "100001", "523"]),
        ("id,count\n00002,5\n00001,3\n", ["00001", "00002"]),
        ("count;x\n", None),
        ("split,bin_id\ntrain,1017\ntest,01017\n", ["01017", "1017"]),
        ("\ufeffid\r\n00001\r\n", ["00001"]),
        (json.dumps({"1": ["data/metadata/100313.json", "data/metadata/00152.json"], "2": []}), ["00152", "100313"]),
        (json.dumps(["00001.jpg", "523"]), ["00001", "523"]),
        ("../etc/passwd\n", None),
        ('["a/../.."]', None),
        ("{broken", None),
        ("", None),
        ("[]", None),
    ],
)
def test_reads_every_kind_of_list(text, ids):
    if ids is None:
        with pytest.raises(ConfigError, match=r"ids\.txt: "):
            parse_ids(text, name="ids.txt")
    else:
        assert parse_ids(text, name="ids.txt") == ids


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("00001-01999", ("00001", "01999", 1999)),
        ("1-1200", ("1", "1200", 1200)),
        ("99999-100001", ("99999", "100001", 3)),
        ("ids.csv", None),
        ("2026-11-22", None),
    ],
)
def test_reads_a_range_within_one_family(text, ends):
    ids = ids_in_range(text)
    assert (ids and (ids[0], ids[-1], len(ids))) == ends


@pytest.mark.parametrize("text", ["1-01999", "00010-00001", "00001-1999", "001-005"])
def test_a_range_never_crosses_families(text):
    with pytest.raises(ConfigError, match="within one family"):
        ids_in_range(text)


BOTH = {"00007", "00123", "04500", "12345", "7", "123"}


@pytest.mark.parametrize(
    ("given", "examples"),
    [
        (["4500"], r"'4500' \(the source has '04500'\)"),
        (["7", "123", "4500", "12345"], r"got '4500' \(the source has '04500'\)\."),  # 7 and 123 exist by accident
        (["999", "4500", "12345"], "'4500'"),  # 999 is in neither family
    ],
)
@pytest.mark.parametrize("as_function", [False, True])
def test_ids_without_their_zeros_are_refused(given, examples, as_function):
    with pytest.raises(DataError, match=rf"^stock\.csv: ids must be written as in the source, .*{examples}"):
        check_padding(given, BOTH.__contains__ if as_function else BOTH, "stock.csv")


def test_zeros_that_the_source_does_not_have_are_refused():
    with pytest.raises(DataError, match=r"'00008' \(the source has '8'\)"):
        check_padding(["00007", "00008"], {"00007", "8"}, "ids.txt")


@pytest.mark.parametrize(
    ("given", "warns"),
    [
        (["7", "123"], True),
        (["7", "12345"], True),
        (["7", "00007", "4500"], False),  # a list that has zeros has lost none: 4500 is just missing
        (["12345", "999", "x-1"], False),  # 999 is in neither family
        ([], False),
    ],
)
def test_ids_that_exist_in_both_spellings_are_logged(given, warns, caplog):
    check_padding(given, BOTH, "stock.csv")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warns


def test_a_long_list_is_looked_up_by_sample():
    lookups = []

    def exists(bin_id):
        lookups.append(bin_id)
        return len(bin_id) < 5

    check_padding([str(number) for number in range(1, 2000)], exists, "ids.txt")
    assert sum(len(bin_id) == 5 for bin_id in lookups) <= 100


def test_an_id_has_a_counterpart_of_the_same_number():
    assert [counterpart_of(text) for text in ("0", "00000", "9999", "10000", "x")] == [
        "00000",
        "0",
        "09999",
        None,
        None,
    ]
