import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.dataset.groups import block_of, groups_of, sort_key_of
from bincount.dataset.split import PART_FRACTIONS, part_of

numbers = st.integers(1, 300)
bins = st.dictionaries(
    st.one_of(numbers.map("{:05d}".format), numbers.map(str)),
    st.sets(st.sampled_from("abcde"), max_size=3),
    max_size=60,
)


@given(bins, st.randoms())
def test_groups_are_runs_of_padded_neighbours_and_order_does_not_matter(skus, random):
    ids = list(skus)
    groups = groups_of(ids, skus)
    random.shuffle(ids)
    assert groups_of(ids, skus) == groups
    assert list(groups) == sorted(ids, key=sort_key_of)
    for bin_id, group in groups.items():
        family, number, _ = sort_key_of(bin_id)
        before = f"{number - 1:05d}"
        if family == "padded" and before in skus and skus[before] & skus[bin_id]:
            assert group == groups[before]
        else:
            assert group == bin_id


def test_families_never_meet():
    assert groups_of(["523", "00523"], {"523": "a", "00523": "a"}) == {"00523": "00523", "523": "523"}
    assert block_of("523") != block_of("00523")


@pytest.mark.parametrize("id_of", ["{:05d}".format, str])
def test_every_full_stratum_has_the_shares_and_blocks_stay_whole(id_of):
    for first in (0, 400, 1200):
        parts = [part_of(id_of(number)) for number in range(first, first + 400)]
        assert {part: parts.count(part) / 400 for part in PART_FRACTIONS} == pytest.approx(PART_FRACTIONS)
        assert parts == [part_of(id_of(number // 20 * 20)) for number in range(first, first + 400)]


def test_strata_are_drawn_one_by_one():
    parts = [part_of(f"{number:05d}") for number in range(0, 100_000, 20)]
    assert len({tuple(parts[first : first + 20]) for first in range(0, 5000, 20)}) > 200
