"""Records with an earlier photo: what it adds, and what becomes of one that cannot be used."""

import json

import pytest

from bincount.errors import ConfigError, DataError
from bincount.mismatch.change import OTHER_BIN
from bincount.outcomes.import_outcomes import import_outcomes
from bincount.reconcile.reconcile import reconcile
from tests.bins import undecodable, write_bin
from tests.reconcile.reconciled import read_lists, registered, write_records
from tests.stores import make_settings
from tests.tiny import photo

TITLES = ("id", "recorded", "before", "counted_before")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return make_settings(tmp_path_factory.mktemp("history"))


@pytest.fixture(scope="module")
def model(settings):
    return registered(settings, follows=True, sharpness=4.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Bins 20000 to 20009 with 3 items, each photographed again as 20010 to 20019 with 2; and one damaged photo."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(20):
        items = 3 if number < 10 else 2
        write_bin(folder, f"{20_000 + number}", recorded=items, image=photo(items=items, seed=number % 10))
    write_bin(folder, "20020", recorded=1, image=undecodable(photo()))
    write_bin(folder, "20021", recorded=2, image=photo(items=2, seed=0))  # a copy of 20010
    return str(folder)


def lines_of(settings, source, model, out, file, **more):
    reconcile(settings, source=source, records=file, model=model, out=str(out), **more)
    return {line["id"]: line for line in read_lists(out)[0]}


def test_both_photos_judge_a_record_whose_bin_changed(settings, model, source, tmp_path):
    rows = [(str(20_010 + row), 2, str(20_000 + row), 3) for row in range(10)]
    lines = lines_of(settings, source, model, tmp_path / "out", write_records(tmp_path / "a.csv", rows, TITLES))
    alone = lines_of(settings, source, model, tmp_path / "b", write_records(tmp_path / "b.csv", [r[:2] for r in rows]))
    for bin_id, before in ((row[0], row[2]) for row in rows):
        line = lines[bin_id]
        assert line["before"] == f"{source}/bin-images/{before}.jpg"
        assert line["counted_before"] == 3
        assert f"since photo {before} (3 counted) probably" in line["reason"]
        assert "the record says 1 fewer" in line["reason"]
        assert alone[bin_id]["before"] is None
        assert alone[bin_id]["probabilities"] != line["probabilities"]
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('class="before"') == 10
    assert "a recorded move that did not take place is not noticed by comparing photos" in page


@pytest.mark.parametrize(
    ("recorded", "before", "counted", "reason"),
    [
        (2, "20010", 3, "before is the bin's own photo"),
        (2, "../etc", 3, "before is no photo's id"),
        (2, "20000", "", "counted_before is missing, before is not"),
        (2, "", 3, "before is missing, counted_before is not"),
        (2, "20000", 1_000_000, "counted_before is no whole number from 0 to 100000"),
        (2, "20000", 17, "counted_before is none of the model's counts, 1-5"),
        (3, "20000", 3, "the record says what was counted before"),
        (2, "29999", 3, "the earlier photo is missing"),
        (2, "20020", 3, "the earlier photo "),
        (2, "20021", 3, "the earlier photo is the same as this one"),
        (2, "", "", ""),
    ],
)
def test_an_earlier_photo_that_cannot_be_used_leaves_the_record_to_its_own(
    settings, model, source, tmp_path, recorded, before, counted, reason
):
    file = write_records(tmp_path / "a.csv", [("20010", recorded, before, counted)], TITLES)
    line = lines_of(settings, source, model, tmp_path / "out", file)["20010"]
    alone = write_records(tmp_path / "b.csv", [("20010", recorded)])
    assert lines_of(settings, source, model, tmp_path / "b", alone)["20010"] == line | {
        "reason": line["reason"].partition("; judged without")[0]
    }
    assert reason in line["reason"]
    assert ("judged without an earlier photo" in line["reason"]) is bool(reason)


def test_bins_that_name_each_other_are_judged_by_their_own_photos(settings, model, source, tmp_path):
    rows = [("20010", 2, "20011", 3), ("20011", 2, "20012", 3), ("20012", 2, "20010", 3), ("20013", 2, "20010", 3)]
    lines = lines_of(settings, source, model, tmp_path / "out", write_records(tmp_path / "a.csv", rows, TITLES))
    assert ["leads back to the bin itself" in lines[row[0]]["reason"] for row in rows] == [True, True, True, False]


def test_half_of_the_columns_is_refused(settings, model, source, tmp_path):
    for title, value in (("before", "20000"), ("counted_before", 3)):
        file = write_records(tmp_path / "a.csv", [("20010", 2, value)], ("id", "recorded", title))
        with pytest.raises(DataError, match="must have both columns before and counted_before"):
            reconcile(settings, source=source, records=file, model=model, out=str(tmp_path / "out"))


def test_a_model_without_a_change_head_says_so(settings, source, tmp_path):
    own = make_settings(tmp_path)
    file = write_records(tmp_path / "a.csv", [("20010", 2, "20000", 3)], TITLES)
    line = lines_of(own, source, registered(own, sharpness=4.0), tmp_path / "out", file)["20010"]
    assert "not trained on enough pairs" in line["reason"]


def test_a_photo_of_another_bin_is_noticed(settings, model, source, tmp_path, monkeypatch):
    # Four average colours cannot tell bins apart; a real network's features can (docs/log/learn.md).
    monkeypatch.setattr("bincount.mismatch.change.ChangeHead.problems_of", lambda *_: [OTHER_BIN])
    file = write_records(tmp_path / "a.csv", [("20010", 2, "20000", 3)], TITLES)
    line = lines_of(settings, source, model, tmp_path / "out", file)["20010"]
    assert "probably shows another bin" in line["reason"]
    assert line["before"] is None


def test_a_model_that_knows_bins_in_which_nothing_moved_judges_such_records_too(settings, source, tmp_path):
    own = make_settings(tmp_path)
    model = registered(own, follows=True, unchanged=40, sharpness=4.0)
    file = write_records(tmp_path / "a.csv", [("20010", 3, "20000", 3)], TITLES)
    line = lines_of(own, source, model, tmp_path / "out", file)["20010"]
    assert "since photo 20000 (3 counted) probably" in line["reason"]
    assert "the record says as many" in line["reason"]
    assert "nothing moved" not in (tmp_path / "out" / "report.html").read_text()


def test_what_was_counted_is_next_time_s_count_before(settings, model, source, tmp_path):
    rows = [(str(20_000 + row), 3, f"A-{row}") for row in range(10)]
    titles, first = ("id", "recorded", "location"), tmp_path / "first"
    lines_of(settings, source, model, first, write_records(tmp_path / "a.csv", rows, titles))
    counted = write_records(
        tmp_path / "c.csv", [("20000", 3, "2026-11-20"), ("20001", 4, "2026-11-20")], ("id", "counted", "when")
    )
    import_outcomes(settings, file=counted, worklist=str(first))
    confirmed = str(first / "confirmed.csv")
    by_photo = write_records(
        tmp_path / "d.csv", [("20010", 2, "20000"), ("20012", 2, "20002")], ("id", "recorded", "before")
    )
    lines = lines_of(settings, source, model, tmp_path / "second", by_photo, confirmed=confirmed)
    assert lines["20010"]["counted_before"] == 3
    assert "since photo 20000 (3 counted on 2026-11-20) probably" in lines["20010"]["reason"]
    assert "counted_before is missing" in lines["20012"]["reason"]
    by_location = write_records(tmp_path / "e.csv", [("20010", 2, "A-0"), ("20011", 2, "A-1")], titles)
    lines = lines_of(settings, source, model, tmp_path / "third", by_location, confirmed=confirmed)
    assert [lines[name]["counted_before"] for name in ("20010", "20011")] == [3, 4]
    assert lines["20011"]["before"].endswith("/20001.jpg")


def test_confirmed_counts_need_records_and_must_be_counts(settings, model, source, tmp_path):
    with pytest.raises(ConfigError, match="confirmed: must stand with records"):
        reconcile(settings, source=source, model=model, confirmed="x.csv", out=str(tmp_path / "out"))
    file = write_records(tmp_path / "a.csv", [("20010", 2)])
    raw = write_records(tmp_path / "r.csv", [("20000", 3, "2026-11-20")], ("id", "counted", "when"))
    with pytest.raises(DataError, match="must have one column 'photo'"):
        reconcile(settings, source=source, records=file, model=model, confirmed=raw, out=str(tmp_path / "out"))
    titles = ("id", "counted", "when", "photo")
    wrong = write_records(tmp_path / "w.csv", [("20000", "many", "2026-11-20", "")], titles)
    with pytest.raises(DataError, match=r"w\.csv, line 2: must hold a photo's id and a count"):
        reconcile(settings, source=source, records=file, model=model, confirmed=wrong, out=str(tmp_path / "out"))


def test_outcomes_of_bins_judged_by_two_photos_are_learned_from(settings, model, source, tmp_path):
    rows = [(str(20_010 + row), 2, str(20_000 + row), 3) for row in range(10)]
    out = tmp_path / "out"
    lines_of(settings, source, model, out, write_records(tmp_path / "a.csv", rows, TITLES))
    counted = [(bin_id, 2 + (row == 0), "2026-11-21") for row, (bin_id, *_) in enumerate(rows)]
    file = write_records(tmp_path / "c.csv", counted, ("id", "counted", "when"))
    answer = import_outcomes(settings, file=file, worklist=str(out))
    assert answer["outcomes"]["new"] == 10
    assert json.loads((out / "outcomes.json").read_text())["error_rate"]["estimate"] is not None
