import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.counts import Counts
from bincount.errors import ConfigError


@given(st.integers(0, 98), st.integers(1, 20), st.booleans(), st.integers(0, 200))
def test_every_count_has_at_most_one_class_and_reads_back(low, span, open_top, count):
    high = min(low + span, 99)
    counts = Counts(low, high, open_top)
    assert Counts.parse(str(counts)) == counts
    index = counts.index_of(count)
    if index is None:
        assert count < low or (count > high and not open_top)
    else:
        assert counts.values[index] == min(count, high + open_top)
    assert len(counts.names) == len(counts.values) == len(counts)


@pytest.mark.parametrize("text", ["", "5", "5-1", "3-3", "-1-5", "1-5++", "a-b", "1..5", "0-100", "1-5 ; ls"])
def test_another_form_is_refused_with_what_to_give(text):
    with pytest.raises(ConfigError, match="Give LOW-HIGH"):
        Counts.parse(text)
