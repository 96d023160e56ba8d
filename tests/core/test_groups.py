from hypothesis import given
from hypothesis import strategies as st

from bincount.core.groups import block_of, groups_of, place_of
from bincount.core.split import SHARES, part_of

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
    assert list(groups) == sorted(ids, key=place_of)
    for bin_id, group in groups.items():
        family, number, _ = place_of(bin_id)
        before = f"{number - 1:05d}"
        if family == "padded" and before in skus and skus[before] & skus[bin_id]:
            assert group == groups[before]
        else:
            assert group == bin_id


def test_families_never_meet():
    assert groups_of(["523", "00523"], {"523": "a", "00523": "a"}) == {"00523": "00523", "523": "523"}
    assert block_of("523") != block_of("00523")


def test_parts_take_their_shares_and_blocks_stay_whole():
    parts = [part_of(f"{number:05d}") for number in range(0, 100_000, 20)]
    for part, share in SHARES.items():
        assert abs(parts.count(part) / len(parts) - share) < 0.02
    for number in range(200):
        assert part_of(f"{number:05d}") == part_of(f"{number // 20 * 20:05d}")
