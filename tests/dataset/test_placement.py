import csv
import gzip
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.dataset import placement
from bincount.dataset.groups import are_siblings, sort_key_of
from bincount.dataset.placement import assign_parts, check_parts, cut_shards, draw_order
from bincount.dataset.split import AUXILIARY, check_disjoint, part_of
from bincount.errors import DataError
from tests.shared import ABID, needs_abid

numbers = st.integers(1, 90)
bins = st.dictionaries(
    st.one_of(numbers.map("{:05d}".format), numbers.map(str)),
    st.tuples(st.frozensets(st.sampled_from("abcd"), max_size=2), st.booleans()),
    max_size=90,
)


class Placed:
    def __init__(self, bin_id, place):
        self.id, self.group, self.part = bin_id, place.group, place.part


@given(bins, st.randoms())
def test_no_group_lies_in_two_parts_and_a_part_depends_on_the_id_alone(bins, random):
    skus = {bin_id: sorted(found) for bin_id, (found, _) in bins.items()}
    wanted = {bin_id for bin_id, (_, is_wanted) in bins.items() if is_wanted}
    placed, aside = assign_parts(wanted, skus)
    assert {*placed, *aside} == wanted
    assert len(placed) + len(aside) == len(wanted)
    check_disjoint([Placed(bin_id, place) for bin_id, place in placed.items()])
    for bin_id, place in placed.items():
        assert place.part == part_of(bin_id)
    assert list(placed) == sorted(placed, key=sort_key_of)
    # No two photos of one bin are left in two parts, be they neighbours or linked by a third.
    for first, second in itertools.pairwise(placed):
        if are_siblings(first, second, skus):
            assert placed[first] == placed[second]
    shuffled = list(skus.items())
    random.shuffle(shuffled)
    assert assign_parts(wanted, dict(shuffled)) == (placed, aside)


@given(bins)
def test_what_is_learned_from_beside_shares_no_group_with_what_is_held_out(bins):
    skus = {bin_id: sorted(found) for bin_id, (found, _) in bins.items()}
    wanted = {bin_id for bin_id, (_, is_wanted) in bins.items() if is_wanted}
    alone, aside = assign_parts(wanted, skus)
    placed, aside_too = assign_parts(wanted, skus, set(skus) - wanted)
    assert aside_too == aside
    assert {bin_id: place for bin_id, place in placed.items() if place.part != AUXILIARY} == alone
    assert list(placed) == sorted(placed, key=sort_key_of)
    held_out = {place.group for place in alone.values() if place.part in ("calibration", "test")}
    for bin_id in set(placed) - set(alone):
        assert part_of(bin_id) in ("train", "validation")
        assert placed[bin_id].group not in held_out
    check_disjoint([Placed(bin_id, place) for bin_id, place in placed.items()])


def border():
    """The first block's border at which the part changes: the id before it and the id behind."""
    for number in range(20, 10_000, 20):
        ids = f"{number - 1:05d}", f"{number:05d}"
        if part_of(ids[0]) != part_of(ids[1]):
            return ids
    raise AssertionError


def test_a_sibling_behind_a_border_is_set_aside():
    before, behind = border()
    placed, aside = assign_parts([before, behind], {before: ["a"], behind: ["a", "b"]})
    assert (list(placed), aside) == ([before], [behind])
    placed, aside = assign_parts([before, behind], {before: ["a"], behind: ["b"]})
    assert (list(placed), aside) == ([before, behind], [])


def test_an_unwanted_photo_still_links_its_neighbours():
    skus = {"00001": ["a"], "00002": ["a", "b"], "00003": ["b"]}
    placed, _ = assign_parts(["00001", "00003"], skus)
    assert {place.group for place in placed.values()} == {"00001"}
    before, behind = border()
    after = f"{int(behind) + 1:05d}"
    placed, aside = assign_parts([before, after], {before: ["a"], behind: ["a", "b"], after: ["b"]})
    assert (list(placed), aside) == ([before], [after])


def test_a_group_in_two_parts_is_refused():
    placed = [
        Placed("00019", placement.Assignment("00019", "train")),
        Placed("00020", placement.Assignment("00019", "test")),
    ]
    with pytest.raises(DataError, match=r"group '00019': must lie in one part, got '00019' in train and '00020' in te"):
        check_disjoint(placed)


@given(st.sets(st.integers(0, 10**5).map("{:05d}".format), max_size=50), st.sets(st.integers(0, 10**5).map(str)))
def test_a_draw_from_more_keeps_the_order_of_a_draw_from_less(some, more):
    drawn = draw_order(some | more, seed=3)
    assert draw_order(some, seed=3) == [bin_id for bin_id in drawn if bin_id in some]


def test_another_seed_draws_another_order():
    ids = [f"{number:05d}" for number in range(100)]
    assert draw_order(ids, 0) == draw_order(reversed(ids), 0) != draw_order(ids, 1)


@given(st.lists(st.integers(0, 300), max_size=60))
def test_shards_hold_every_bin_once_in_order_and_are_nearly_full(sizes):
    ids = [f"{number:05d}" for number in range(len(sizes))]
    listed = dict(zip(ids, sizes, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "SHARD_BYTES", 1000)
        shards = list(cut_shards((bin_id, size, 0) for bin_id, size in listed.items()))
    assert [bin_id for shard in shards for bin_id, _, _ in shard] == ids
    filled = [sum(size for _, size, _ in shard) for shard in shards]
    assert all(one <= 1000 for one in filled)
    assert all(one > 700 for one in filled[:-1])


def test_an_empty_part_says_how_many_bins_it_takes():
    ids = [f"{number:05d}" for number in range(1, 40)]
    with pytest.raises(DataError, match=r"got none for .* with 39 bins from 2 blocks .* about 880 bins from 44 blocks"):
        check_parts({bin_id: part_of(bin_id) for bin_id in ids})
    with pytest.raises(DataError, match="calibration, test, train, validation with 0 bins"):
        check_parts({})
    enough = [f"{number:05d}" for number in range(0, 1800, 20)]
    check_parts({bin_id: part_of(bin_id) for bin_id in enough})


@needs_abid
def test_planning_the_whole_data_set_takes_seconds():
    with gzip.open(ABID / "all_counts.csv.gz", "rt") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    assert len(ids) == 394_099
    started_s = time.process_time()
    skus = {bin_id: (f"S{int(bin_id) // 2}",) for bin_id in ids}
    placed, aside = assign_parts(set(draw_order(ids, 0)), skus)
    assert len(placed) + len(aside) == len(ids)
    check_disjoint([Placed(bin_id, place) for bin_id, place in placed.items()])
    assert sum(map(len, cut_shards((bin_id, placement.PHOTO_BYTES, 0) for bin_id in placed))) == len(placed)
    assert time.process_time() - started_s < 30
