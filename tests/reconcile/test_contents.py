"""Records with their products: what these add, and what becomes of those that cannot be used."""

import csv

import pytest

from bincount.errors import ConfigError, DataError
from bincount.reconcile.reconcile import reconcile
from bincount.reconcile.scoring import judge_contents
from tests.bins import metadata, write_bin
from tests.reconcile.reconciled import read_lists, registered, write_records
from tests.stores import make_settings
from tests.tiny import photo

TITLES = ("id", "product", "quantity", "length", "width", "height", "weight")
CUBE = ("A", 2, 5, 5, 5, 0.5)
UNUSED = {
    "20008": "product 1: length must be above 0 and at most 500 in, got -5 'IN'",
    "20009": "the size of a product is not known",
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return make_settings(tmp_path_factory.mktemp("contents"))


@pytest.fixture(scope="module")
def model(settings):
    return registered(settings, follows=True, reads=True, sharpness=4.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Ten bins of two cubes, whose metadata give their size in all but two."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(10):
        document = metadata(2, side={8: -5, 9: None}.get(number, 5))
        write_bin(folder, f"{20_000 + number}", recorded=2, image=photo(items=2, seed=number), document=document)
    return str(folder)


def lines_of(settings, model, source, out, **more):
    reconcile(settings, source=source, model=model, out=str(out), **more)
    return {line["id"]: line for line in read_lists(out)[0]}


def test_the_source_s_own_metadata_are_read(settings, model, source, tmp_path):
    lines = lines_of(settings, model, source, tmp_path / "out")
    for bin_id, line in lines.items():
        if bin_id in UNUSED:
            assert line["evidence"] == "photo"
            assert line["reason"].endswith(f"judged without its products: {UNUSED[bin_id]}")
        else:
            assert line["evidence"] == "photo and contents"
            assert "the record lists 4.1 litres of products, the photo shows about" in line["reason"]
            assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_file_of_contents_says_the_same_as_the_metadata(settings, model, source, tmp_path):
    own = lines_of(settings, model, source, tmp_path / "own")
    records = write_records(tmp_path / "a.csv", [(bin_id, 2) for bin_id in own])
    rows = [(bin_id, *CUBE) for bin_id in own if bin_id not in UNUSED]
    contents = write_records(tmp_path / "c.csv", rows, TITLES)
    lines = lines_of(settings, model, source, tmp_path / "out", records=records, contents=contents)
    for bin_id in own:
        same = ("probabilities", "verdict", "mismatch_probability", "evidence")
        assert [lines[bin_id][name] for name in same] == [own[bin_id][name] for name in same]


@pytest.mark.parametrize(
    ("rows", "titles"),
    [
        ([("20000", "A", 2, 127, 127, 127, 226.796185, "mm", "g")], (*TITLES, "size_unit", "weight_unit")),
        ([("20000", "A", 1, 5, 5, 5, 0.5), ("20000", "A", 1, 5, 5, 5, 0.5)], TITLES),
        ([("20000", "A", 1, 5, 5, 5, ""), ("20000", "A", 1, "", "", "", 0.5)], TITLES),
        ([("20000", "A", 1, 5, 5, 0, 0.5), ("20000", "A", 1, 5, 5, 5, -1)], TITLES),
        ([("20000", "A", 1, 5, 5, 5, 0.5, ""), ("20000", "A", 1, 12.7, 12.7, 12.7, 0.5, "cm")], (*TITLES, "size_unit")),
    ],
)
def test_units_and_a_product_listed_twice(settings, model, source, tmp_path, rows, titles):
    records = write_records(tmp_path / "a.csv", [("20000", 2)])
    plain = write_records(tmp_path / "p.csv", [("20000", *CUBE)], TITLES)
    expected = lines_of(settings, model, source, tmp_path / "p", records=records, contents=plain)["20000"]
    contents = write_records(tmp_path / "c.csv", rows, titles)
    line = lines_of(settings, model, source, tmp_path / "out", records=records, contents=contents)["20000"]
    assert list(line["probabilities"].values()) == pytest.approx(list(expected["probabilities"].values()), abs=1e-4)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("A", 3, 5, 5, 5, 0.5)], "its products sum to 3, the record says 2"),
        ([("A", 2, 0, 5, 5, 0.5)], "product 1: length in line 2 must be above 0 and at most 500 in, got 0.0 'in'"),
        (
            [("B", 1, 5, 5, 5, 0.5), ("A", 1, 5, 5, "x", 0.5)],
            "product 2: height in line 3 must be above 0 and at most 500 in, got 'x' 'in'",
        ),
        ([("A", 2, "1.250", 5, 5, 1)], "product 1: length in line 2 must be above 0 and at most 500 in, got '1250 or"),
        (
            [("A", 1, 10, 10, 10, 0.5), ("A", 1, 9, 9, 9, 0.5)],
            "product 1: size must be the same in lines 2 and 3, got 10 x 10 x 10 and 9 x 9 x 9 in",
        ),
        ([("A", 2, "", "", "", "")], "the size of a product is not known"),
        ([(f"P{number}", 1, 1, 1, 1, 0.1) for number in range(500)], "its products sum to 500, the record says 2"),
        ([("A", 0, 5, 5, 5, 0.5)], "its products sum to 0, the record says 2"),
        ([("A", 2, 5, 5, 5, "")], ""),
        ([("A", 1, 5, 5, 5, 0.5), ("B", 1, 2, 2, 2, 0.5), ("C", 0, "", "", "", "")], ""),
        ([("", 1, 5, 5, 5, 0.5), ("", 1, 2, 2, 2, 0.5)], ""),
    ],
)
def test_products_that_cannot_be_used_leave_the_record_to_its_photo(settings, model, source, tmp_path, rows, reason):
    records = write_records(tmp_path / "a.csv", [("20000", 2)])
    contents = write_records(tmp_path / "c.csv", [("20000", *row) for row in rows], TITLES)
    line = lines_of(settings, model, source, tmp_path / "out", records=records, contents=contents)["20000"]
    assert line["evidence"] == ("photo" if reason else "photo and contents")
    assert (f"judged without its products: {reason}" in line["reason"]) is bool(reason)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("A", 2, 5, 5, 5, -1)], "product 1: weight in line 2 must be above 0 and at most 5000 lb, got '-1' 'lb'"),
        (
            [("A", 1, 5, 5, 5, 1), ("A", 1, 5, 5, 5, 2)],
            "product 1: weight must be the same in lines 2 and 3, got 1 and 2 lb",
        ),
    ],
)
def test_products_are_used_without_a_weight_that_is_none(settings, model, source, tmp_path, rows, reason):
    records = write_records(tmp_path / "a.csv", [("20000", 2)])
    contents = write_records(tmp_path / "c.csv", [("20000", *row) for row in rows], TITLES)
    line = lines_of(settings, model, source, tmp_path / "out", records=records, contents=contents)["20000"]
    assert line["evidence"] == "photo and contents"
    assert line["reason"].endswith(f"; judged without a weight: {reason}")


@pytest.mark.parametrize("quantity", ["", "two", "-1", "1.5", "1.250", "nan", "100001"])
def test_a_wrong_quantity_or_id_leaves_the_other_bins_their_products(
    settings, model, source, tmp_path, caplog, quantity
):
    records = write_records(tmp_path / "a.csv", [(f"2000{number}", 2) for number in range(3)])
    rows = [
        ("20000", *CUBE),
        ("20001", *CUBE),
        ("20001", "SECRET", quantity, 5, 5, 5, 0.5),
        ("../20002", *CUBE),
        ("20000", "C", 0, "", "", "", ""),
    ]
    contents = write_records(tmp_path / "c.csv", rows, TITLES)
    with caplog.at_level("INFO"):
        lines = lines_of(settings, model, source, tmp_path / "out", records=records, contents=contents)
    assert [lines[f"2000{number}"]["evidence"] for number in range(3)] == ["photo and contents", "photo", "photo"]
    wrong = "quantity in line 4 must be a whole number from 0 to 100000, got "
    assert f"judged without its products: {wrong}" in lines["20001"]["reason"]
    assert "products" not in lines["20002"]["reason"]
    assert "c.csv: rows set aside, without a bin's id: 1, such as line 5" in caplog.text
    assert f"c.csv: values set aside: 1, such as {wrong}" in caplog.text
    assert "contents: used for 1 of 2 records that name products" in caplog.text
    assert "SECRET" not in caplog.text


def test_500_products_on_one_record_are_used(tmp_path):
    own = make_settings(tmp_path)
    model = registered(own, reads=True, sharpness=4.0, counts="1-4+")
    write_bin(tmp_path / "source", "20000", recorded=500, image=photo(items=5))
    records = write_records(tmp_path / "a.csv", [("20000", 500)])
    rows = [("20000", f"P{number}", 1, 1, 1, 1, 0.1) for number in range(500)]
    contents = write_records(tmp_path / "c.csv", rows, TITLES)
    source = str(tmp_path / "source")
    line = lines_of(own, model, source, tmp_path / "out", records=records, contents=contents)["20000"]
    assert line["evidence"] == "photo and contents"
    assert "the record lists 8.19 litres of products" in line["reason"]
    assert line["verdict"] in ("match", "mismatch", "unsure")


def test_both_photos_and_products_are_one_probability(settings, model, tmp_path):
    for bin_id, items in (("20000", 2), ("20001", 3)):  # the same bin, an item later
        write_bin(tmp_path / "source", bin_id, recorded=items, image=photo(items=items, seed=0))
    titles, row = ("id", "recorded", "before", "counted_before"), ("20000", 2, "20001", 3)
    followed = write_records(tmp_path / "a.csv", [row], titles)
    alone = write_records(tmp_path / "b.csv", [row[:2]])
    listed = {"contents": write_records(tmp_path / "c.csv", [("20000", *CUBE)], TITLES)}
    lines = [
        lines_of(settings, model, str(tmp_path / "source"), tmp_path / "out", records=records, **more)["20000"]
        for records, more in ((followed, listed), (followed, {}), (alone, listed), (alone, {}))
    ]
    assert [line["evidence"] for line in lines] == ["photos and contents", "photos", "photo and contents", "photo"]
    assert len({str(line["probabilities"]) for line in lines}) == 4
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_killed_run_joins_no_evidence_twice(settings, model, source, tmp_path, monkeypatch):
    once = lines_of(settings, model, source, tmp_path / "once")

    def twice(*arguments):
        judge_contents(*arguments)
        judge_contents(*arguments)

    monkeypatch.setattr("bincount.reconcile.reconcile.judge_contents", twice)
    assert lines_of(settings, model, source, tmp_path / "twice") == once


def test_a_run_that_ended_before_its_products_were_read_reads_them_next_time(
    settings, model, source, tmp_path, monkeypatch
):
    records = write_records(tmp_path / "a.csv", [("20000", 2)])
    contents = write_records(tmp_path / "c.csv", [("20000", *CUBE)], TITLES)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bincount.reconcile.reconcile.load_contents", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lines_of(settings, model, source, tmp_path / "out", records=records, contents=contents)
    assert list(settings.reconciles.glob("*.db"))
    line = lines_of(settings, model, source, tmp_path / "out", records=records, contents=contents)["20000"]
    assert line["evidence"] == "photo and contents"


def test_names_of_products_reach_no_file(settings, model, source, tmp_path, caplog):
    records = write_records(tmp_path / "a.csv", [("20000", 2)])
    name = "<script>alert(1)</script>"
    contents = write_records(tmp_path / "c.csv", [("20000", name, 2, 5, "x", 5, 0.5)], TITLES)
    with caplog.at_level("DEBUG"):
        lines_of(settings, model, source, tmp_path / "out", records=records, contents=contents)
    assert "c.csv: values set aside: 1, such as width in line 2 must be above 0" in caplog.text
    assert all(
        "alert(1)" not in text for text in (caplog.text, *(path.read_text() for path in (tmp_path / "out").iterdir()))
    )


def test_wrong_files_are_refused(settings, model, source, tmp_path):
    records = write_records(tmp_path / "a.csv", [("20000", 2)])
    for rows, said in (
        (
            [("20000", "A", -1, 5, 5, 5, 0.5), ("99999", *CUBE)],
            r"c\.csv: must list products of the records' bins, got none that can be used: quantity in line 2 must be a "
            r"whole number from 0 to 100000, got '-1'\. Fix the row\.",
        ),
        ([("99999", *CUBE)], r"must list products of the records' bins, got none of them\. Compare the ids\."),
        ([("../20000", *CUBE)], r"must list products of the records' bins, got none of them\. Compare the ids\."),
    ):
        contents = write_records(tmp_path / "c.csv", rows, TITLES)
        with pytest.raises(DataError, match=said):
            reconcile(settings, source=source, records=records, contents=contents, model=model, out=str(tmp_path / "o"))
    with pytest.raises(ConfigError, match="contents: must stand with records"):
        reconcile(settings, source=source, contents="c.csv", model=model, out=str(tmp_path / "o"))


def test_a_model_without_a_judge_says_so(source, tmp_path):
    own = make_settings(tmp_path)
    lines = lines_of(own, registered(own, sharpness=4.0), source, tmp_path / "out")
    assert "was not trained on enough records that name products" in lines["20000"]["reason"]
    with (tmp_path / "out" / "worklist.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["evidence"] == "photo"
