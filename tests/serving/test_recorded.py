"""Records through `bincount serve`: verdicts from versions that have bounds, counts from those before them."""

import base64
import json
import urllib.request

import pytest

from bincount.client import Client
from bincount.errors import DataError
from bincount.mismatch.answer import same_answer
from tests.serving.versions import PHOTOS, about, name, register_version, serving, wait_until
from tests.stores import make_settings
from tests.tiny import photo


def post(url, body):
    """The predictions for a request that the client does not send."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/invocations", json.dumps(body).encode(), headers)  # noqa: S310 http
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 http
        return json.loads(response.read())["predictions"]


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


@pytest.mark.timeout(240)
def test_an_earlier_photo_is_used_where_it_can_be(tmp_path):
    settings = make_settings(tmp_path)
    version, answers = register_version(settings, calibrated=True)
    name(settings, version)
    with serving(settings) as (url, _), Client(url) as client:
        wait_until(lambda: about(url)["version"] == version)
        before = [(photo(items=3, seed=7), 3), None, (PHOTOS[2], 3), (PHOTOS[2], 17), (b"no photo", 3)]
        photos = [photo(items=2, seed=7), *PHOTOS[1:4]]
        first, plain, same, unknown = client.count(photos, [2, 2, 3, 2], before[:4])
        assert sum(first["probabilities"].values()) == pytest.approx(1)
        assert list(first["change_probabilities"]) == ["-2", "-1", "+1", "+2"]  # it knows no bin in which nothing moved
        assert first["change"] == first["count"] - 3
        assert first["verdict"] in ("match", "mismatch", "unsure")
        assert "change" not in plain
        assert same_answer(plain, answers[1])
        assert same_answer(same, answers[2])
        assert same["before_problem"].startswith("the record says what was counted before")
        assert same_answer(unknown, answers[3])
        assert unknown["before_problem"] == "counted_before is none of the model's counts, 1-5"
        with pytest.raises(DataError, match="row 1: before must be a whole JPEG or PNG"):
            client.count(PHOTOS[:2], None, [None, before[4]])
        cubes = [{"quantity": 2, "length": 5, "width": 5, "height": 5, "weight": 0.5}]
        image = base64.b64encode(photos[1]).decode()
        sent = [{"image": image, "contents": cubes, "recorded": recorded} for recorded in (2, 3)]
        read, wrong = post(url, {"dataframe_records": sent})
        assert read["probabilities"] != plain["probabilities"]
        assert read["verdict"] in ("match", "mismatch", "unsure")
        assert wrong["contents_problem"] == "its products sum to 2, the record says 3"
        sent = [
            {"image": image, "contents": [cubes[0] | changed], "recorded": 2}
            for changed in ({"length": 0}, {"weight": -2})
        ]
        unknown, light = post(url, {"dataframe_records": sent})
        assert same_answer(unknown, plain)
        assert unknown["contents_problem"] == "product 1: length must be above 0 and at most 500 in, got 0 'in'"
        assert light["probabilities"] != plain["probabilities"]
        assert light["contents_problem"] == "product 1: weight must be above 0 and at most 5000 lb, got -2 'lb'"
        many = client.count([photos[0]] * 20, None, [before[0]] * 20)  # sent as parquet
        assert {row["change"] for row in many} == {first["change"]}
