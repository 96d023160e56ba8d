"""The count sheet in a real browser at phone width: by keyboard, after a reload, with many bins, to the next list."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from bincount.counts import Counts
from bincount.outcomes.import_outcomes import import_outcomes
from bincount.reconcile.reconcile import reconcile
from bincount.reconcile.report import render_count_sheet
from bincount.reconcile.worklist import WorklistContext
from tests.reconcile.reconciled import read_lists, registered, write_records, write_source
from tests.stores import make_settings

ABOUT = WorklistContext("s3://<b>", "7", "0" * 16, Counts.parse("1-5"), 0.05)
HOSTILE = '<script>document.title = "run"</script>'


@pytest.fixture
def phone(chromium):
    """A phone that has no network; fails if a page says anything on the console or asks for anything."""
    said = []
    context = chromium.new_context(viewport={"width": 390, "height": 800}, accept_downloads=True)

    def open_page(path):
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda asked: said.append(asked.url) if asked.url.startswith("http") else None)
        page.goto(Path(path).as_uri())
        return page

    yield open_page
    context.close()
    assert not said


def sheet_of(folder, bins):
    rows = [{"id": f"{10_000 + place}", "location": f"A-{bins - place}"} for place in range(bins)]
    path = folder / "report.html"
    path.write_text(render_count_sheet({"worklist": f"{bins:016d}"}, rows, {}, ABOUT), encoding="utf-8")
    return path


def saved(page):
    """The rows of the files that the button saves, by name."""
    files = {}
    page.on("download", lambda download: files.__setitem__(download.suggested_filename, download))
    page.locator("#save").click()
    page.wait_for_timeout(500)
    read = {}
    for name, download in files.items():
        with open(download.path(), newline="") as file:
            read[name] = list(csv.DictReader(file))
    return read


def test_bins_are_counted_by_keyboard_in_the_order_of_their_locations(phone, tmp_path):
    page = phone(sheet_of(tmp_path, 12))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("h2").first.inner_text().startswith("A-1 ")
    page.locator("#scan").focus()
    page.keyboard.type("10002")  # a scanner types and ends with Enter
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('li').dataset.id") == "10002"
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('li').dataset.location") == "A-11"
    page.keyboard.type("0")
    page.keyboard.press("Enter")
    assert page.locator("#progress").inner_text() == "2 of 12 bins done."
    page.locator("#scan").fill("a-5")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('li').dataset.location") == "A-5"
    page.locator("#scan").fill("nowhere")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('#scan').validationMessage") == "no such bin on this sheet"
    found = saved(page)
    assert [(row["id"], row["counted"]) for row in found["counts.csv"]] == [("10002", "7"), ("10001", "0")]
    assert "not-counted.csv" not in found


def test_what_was_entered_is_there_after_a_reload(phone, tmp_path):
    path = sheet_of(tmp_path, 3)
    page = phone(path)
    first = page.locator("li").first
    first.locator(".counted").fill("4")
    page.locator("#by").fill("Ada, =cmd")
    page.keyboard.press("Tab")
    page.locator("li").nth(1).locator("select").select_option("bin not found")
    page.locator("li").nth(1).locator(".note input").fill('the "blue" aisle')
    page.keyboard.press("Tab")
    page.reload()
    assert page.locator("#progress").inner_text() == "2 of 3 bins done."
    assert first.locator(".counted").input_value() == "4"
    found = saved(page)
    assert [(row["counted"], row["by"]) for row in found["counts.csv"]] == [("4", "Ada, =cmd")]
    assert found["not-counted.csv"] == [{"id": "10001", "reason": "bin not found", "note": 'the "blue" aisle'}]


def test_two_counts_that_differ_ask_for_a_third(phone, tmp_path):
    page = phone(sheet_of(tmp_path, 2))
    item = page.locator("li").first
    counted = item.locator(".counted")

    def enter(number):
        counted.fill(number)
        counted.press("Enter")

    enter("3")
    enter("4")
    assert item.get_by_role("alert").inner_text() == "Two counts differ. Count this bin again and enter what you find."
    assert page.locator("#progress").inner_text() == "0 of 2 bins done, 1 to count again."
    page.locator("h1").click()
    assert "counts.csv" not in saved(page)
    page.reload()
    assert page.locator("#progress").inner_text() == "0 of 2 bins done, 1 to count again."
    enter("4")
    assert page.locator("#progress").inner_text() == "1 of 2 bins done."
    assert [row["counted"] for row in saved(page)["counts.csv"]] == ["4"]


@pytest.mark.parametrize("wrong", ["-1", "2.5", "many", "1000000", "100001"])
def test_what_is_no_count_is_not_taken(phone, tmp_path, wrong):
    page = phone(sheet_of(tmp_path, 2))
    counted = page.locator(".counted").first
    counted.evaluate(f"field => {{ field.removeAttribute('maxlength'); field.value = {json.dumps(wrong)}; }}")
    counted.press("Enter")
    assert page.locator("#progress").inner_text() == "0 of 2 bins done."


def test_two_thousand_bins_answer_at_once(phone, tmp_path):
    page = phone(sheet_of(tmp_path, 2000))
    page.locator("#scan").fill("11999")
    page.keyboard.press("Enter")
    page.keyboard.type("5")
    page.keyboard.press("Enter")
    assert page.locator("#progress").inner_text() == "1 of 2000 bins done."


def test_ids_and_locations_are_text(phone, tmp_path):
    rows = [{"id": "10000", "location": HOSTILE}]
    path = tmp_path / "report.html"
    path.write_text(render_count_sheet({"worklist": HOSTILE}, rows, {}, ABOUT), encoding="utf-8")
    page = phone(path)
    assert page.title() == "bincount: count sheet"
    assert HOSTILE in page.locator("h2").inner_text()


def test_any_text_may_be_a_location():
    ordered = ["", "1²", "9", "10", "9" * 5000, "A-9", "A-10", "B²", "²"]
    rows = [{"id": f"{10_000 + place}", "location": location} for place, location in enumerate(reversed(ordered))]
    page = render_count_sheet({"worklist": "0" * 16}, rows, {}, ABOUT)
    assert re.findall('data-location="(.*?)"', page) == ordered


def test_from_the_list_to_the_sheet_and_back_to_the_next_list(phone, tmp_path):
    settings = make_settings(tmp_path)
    model, source, out = registered(settings, sharpness=4.0), tmp_path / "source", tmp_path / "out"
    recorded = write_source(source, bins=6)
    rows = [(bin_id, count, f"A-{bin_id}") for bin_id, count in recorded.items()]
    records = write_records(tmp_path / "stock.csv", rows, ("id", "recorded", "location"))
    reconcile(settings, source=str(source), records=records, model=model, out=str(out), blind=True, capacity=4)
    text = (out / "report.html").read_text()
    for word in ("mismatch", "verdict", "recorded", "predicted", "probabilit"):
        assert word not in text.lower(), word
    page = phone(out / "report.html")
    assert page.locator("li").count() == 4
    for place in range(4):
        page.locator(".counted").nth(place).fill("2")
        page.keyboard.press("Enter")
    found = {}
    page.on("download", lambda download: found.__setitem__(download.suggested_filename, download.path()))
    page.locator("#save").click()
    page.wait_for_timeout(500)
    counts = shutil.copy(found["counts.csv"], tmp_path / "counts.csv")
    answer = import_outcomes(settings, file=str(counts), worklist=str(out))
    assert answer["outcomes"]["new"] == 4
    reconcile(
        settings,
        source=str(source),
        records=records,
        model=model,
        out=str(tmp_path / "next"),
        confirmed=str(out / "confirmed.csv"),
    )
    assert read_lists(tmp_path / "next")[2]["error_rate_from"]["outcomes"] == 4
