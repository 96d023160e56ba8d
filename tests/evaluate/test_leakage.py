"""Bins that a model has seen: by id, by sibling, and not by an id that means another bin."""

from bincount.dataset.manifest import Record
from bincount.evaluate.leakage import (
    LEARNED_BIN,
    LEARNED_SIBLING,
    exclude_learned,
    exclude_siblings,
    is_another_bucket,
    learned_bins,
)


def record(bin_id, recorded, n_skus=1):
    return Record(bin_id, bin_id, recorded, "train", n_skus, 8, 8, 1, "", 0, 0)


def of_group(number, first):
    return Record(f"{number:05d}", f"{first:05d}", 1, "test", 1, 8, 8, 1, "", 0, 0)


def test_learned_bins_and_their_siblings_are_known_and_nothing_else():
    skus = {"00001": "a", "00002": "ab", "00003": "b", "00004": "c", "00009": "b", "1": "a", "x": "a"}
    found = learned_bins(dict.fromkeys(skus, 2), skus, {"00001"}.__contains__)
    assert found == {"00001": LEARNED_BIN, "00002": LEARNED_SIBLING, "00003": LEARNED_SIBLING}


def test_a_learned_bin_that_is_not_wanted_still_betrays_its_siblings():
    assert learned_bins({"00002": 1}, {"00001": "a", "00002": "a"}, {"00001"}.__contains__) == {
        "00002": LEARNED_SIBLING
    }


def test_a_learned_neighbour_that_was_not_read_may_be_a_sibling():
    is_learned = {"00001", "00006", "99999", "100000", "1"}.__contains__
    skus = dict.fromkeys(["00000", "00003", "00005", "100001", "2"], "a")
    found = learned_bins(dict.fromkeys(skus, 1), skus, is_learned)
    assert found == dict.fromkeys(["00000", "00005", "100001"], LEARNED_SIBLING)
    assert not learned_bins({"00002": 1}, {"00001": "a", "00002": "b"}, is_learned)  # read, and no sibling


def test_equal_ids_of_another_bucket_are_other_bins():
    learned = {name: record(name, count) for name, count in [("00001", 1), ("00002", 2), ("00003", 3)]}
    skus = dict.fromkeys(learned, ("a",))
    assert not is_another_bucket({"00001": 1, "00002": 2, "00003": 9}, skus, learned)  # a copy, one bin counted anew
    assert is_another_bucket({"00001": 5, "00002": 2, "00003": 9}, skus, learned)
    assert is_another_bucket({"00001": 1}, {"00001": ("a", "b")}, learned)
    assert not is_another_bucket({"00007": 1}, {"00007": ("a",)}, learned)  # nothing shared, nothing known


def test_groups_that_were_learned_from_are_excluded():
    records = [of_group(1, 1), of_group(2, 1), of_group(5, 5)]
    assert exclude_learned(records, {"00001"}) == records[2:]


def test_across_manifests_nearby_ids_may_be_one_bin():
    records = [of_group(20, 20), of_group(21, 20), of_group(23, 23), of_group(30, 30)]
    assert [each.id for each in exclude_siblings(records, {"00018"})] == ["00023", "00030"]
    assert exclude_siblings(records, {"18", "x-1"}) == records  # another family of ids, other bins
    assert exclude_siblings(records, set()) == records
