"""Shares of work: nothing is left out and nothing done twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.core.errors import ConfigError
from bincount.core.share import ALL, Share


@given(st.lists(st.integers()), st.integers(1, 70))
def test_each_thing_is_in_exactly_one_share(things, of):
    shares = [Share(index, of).pick(things) for index in range(of)]
    assert sorted(thing for share in shares for thing in share) == sorted(things)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert ALL.pick(things) == things


@pytest.mark.parametrize(
    ("index", "of", "rule"),
    [
        (2, 2, "--index: must be a share from 0 to 1, got 2"),
        (-1, 2, "--index: must be a share from 0 to 1, got -1"),
        (0, 0, "--of: must be 1 or more, got 0"),
    ],
)
def test_a_share_that_is_none_is_named(index, of, rule):
    with pytest.raises(ConfigError, match=rule):
        Share(index, of)
