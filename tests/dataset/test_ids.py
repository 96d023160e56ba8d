import json

import pytest

from bincount.dataset.candidates import ids_in_range, parse_ids
from bincount.errors import ConfigError


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
