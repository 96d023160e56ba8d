"""Shares of work: nothing is left out and nothing done twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.dataset.partition import ALL, Partition
from bincount.errors import ConfigError


@given(st.lists(st.integers()), st.integers(1, 70))
def test_each_item_is_in_exactly_one_share(items, of):
    shares = [Partition.parse(f"{number}/{of}").pick(items) for number in range(1, of + 1)]
    assert sorted(item for share in shares for item in share) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert ALL.pick(items) == items


@pytest.mark.parametrize("text", ["3/2", "0/2", "-1/2", "0/0", "1/0", "1", "1/2/3", "a/b", "1/2 ", "", "1/99999999"])
def test_a_share_that_is_none_is_named(text):
    with pytest.raises(ConfigError, match="--share: must be such as 1/3"):
        Partition.parse(text)
