"""Pairs are neighbours of one group."""

from bincount.dataset.manifest import Record
from bincount.dataset.pairs import pairs_of


def record(bin_id, group):
    return Record(bin_id, group, 1, "train", 1, 60, 40, 1, "", 0, 0)


def test_a_pair_is_two_successive_ids_of_one_group():
    records = [
        record("00001", "00001"),
        record("00002", "00001"),
        record("00003", "00001"),
        record("00004", "00004"),
        record("00006", "00004"),
        record("523", "523"),
    ]
    assert pairs_of(records) == [(0, 1), (1, 2)]
    assert pairs_of([]) == []
