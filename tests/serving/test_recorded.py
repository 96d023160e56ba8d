"""Records through `bincount serve`: verdicts from versions that have bounds, counts from those before them."""

import pytest

from bincount.client import Client
from bincount.errors import DataError
from bincount.mismatch.answer import same_answer
from tests.serving.versions import PHOTOS, about, name, register_version, serving, wait_until
from tests.stores import make_settings


@pytest.mark.timeout(240)
def test_records_are_judged_by_a_version_that_can(tmp_path):
    settings = make_settings(tmp_path)
    before, answers = register_version(settings)
    name(settings, before)
    with serving(settings) as (url, _):
        wait_until(lambda: about(url)["version"] == before)
        with Client(url) as client:
            plain = client.count(PHOTOS, [1, 2, None, 0, 17])
            assert plain == client.count(PHOTOS)
            assert all(map(same_answer, plain, answers))
            assert set(plain[0]) == {"count", "confidence", "probabilities"}

            after, _ = register_version(settings, calibrated=True)
            name(settings, after)
            wait_until(lambda: about(url)["version"] == after)
            judged = client.count(PHOTOS, [1, 2, None, 0, 17])
            assert all(map(same_answer, judged, answers))
            verdicts = [answer.get("verdict") for answer in judged]
            assert verdicts[2:] == [None, "not_countable", "not_countable"]
            assert set(verdicts[:2]) <= {"match", "unsure"}  # nothing was excluded
            assert [(answer["low"], answer["high"]) for answer in judged] == [(1, 5)] * 5
            with pytest.raises(DataError, match="row 1: recorded must be a whole number"):
                client.count(PHOTOS[:2], [3, -1])
            with pytest.raises(DataError, match="row 4: recorded must be a whole number"):
                client.count(PHOTOS, [1, 2, 3, 4, 200_000])
