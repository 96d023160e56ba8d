"""The report in a real browser: opened from disk, without a network, at two widths, light and dark."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from bincount.counts import Counts
from bincount.outcomes.confirmed import Confirmed
from bincount.reconcile.report import reduced_photos, render_report
from bincount.reconcile.report_pictures import ReportPictures
from bincount.reconcile.worklist import WorklistContext, yield_curve
from tests.bins import write_bin
from tests.tiny import photo

ABOUT = WorklistContext("s3://<b>", "7", "0" * 16, Counts.parse("0-5+"), 0.05)
TOLD = {"by": "--error-rate", "outcomes": 0}
VERDICTS = ("mismatch", "unsure", "match", "not_countable")
HOSTILE = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"


DRIFT = {
    "compared": 870,
    "reference": 770,
    "facts": {
        "brightness": {"psi": 1.2, "limit": 0.25, "then": 112.0, "now": 71.0},
        "recorded": {"psi": 0.02, "limit": 0.25, "then": 3.1, "now": 3.2},
    },
    "beyond": ["brightness"],
}


def row(place):
    verdict = VERDICTS[place % 4]
    probability = None if verdict == "not_countable" else round(0.9 / (place + 1), 4)
    return {
        "id": f"{10_000 + place}",
        "location": HOSTILE if place == 2 else f"A-{place:03d}",
        "recorded": None if place == 3 else place % 7,
        "predicted": (place * 3) % 7,
        "probabilities": {},
        "verdict": verdict,
        "mismatch_probability": probability,
        "direction": "fewer" if probability else None,
        "expected_cost": probability,
        "reason": HOSTILE,
        "photo": "p",
        "before": "photos/bin-images/10001.jpg" if place == 2 else None,
        "counted_before": 4 if place == 2 else None,
    }


def page_of(folder, *, rows=24, **said):
    """Writes a report. Returns its path."""
    listed = [row(place) for place in range(rows)]
    probabilities = [each["mismatch_probability"] for each in listed if each["mismatch_probability"]]
    summary = {
        "bins": 1234,
        "judged": len(probabilities),
        "verdicts": dict.fromkeys(VERDICTS, 6),
        "not_judged": {"photo is missing": 6} if rows else {},
        "expected_wrong": sum(probabilities),
        "to_count": 5,
        "expected_found": 2.0,
        "expected_found_at_random": 0.5,
        "learned_from": 3,
        "curve": yield_curve(probabilities),
        "records": HOSTILE,
        "error_rate": 0.02,
        "error_rate_from": TOLD,
        "pooled": ["1", "6+"],
        "drift": None,
        "decay": [],
        "evidence": {"photo": 20, "photos": 4},
        "knows_unchanged": False,
        "blind": False,
    } | said
    for place in range(3):
        write_bin(folder, f"{10_000 + place}", recorded=1, image=photo(seed=place))
    from bincount.store.folder import FolderStore

    ids = [each["id"] for each in listed[:4]]
    photos = reduced_photos(FolderStore(str(folder)), ids)
    assert len(photos) == min(3, rows)
    falls = np.zeros((8, 8), np.float32)
    falls[0, 7] = 0.9
    similar = [Confirmed("10001", 4, "2026-11-20"), Confirmed("10002", 2, ""), Confirmed("99999", 1, "")]
    pictures = ReportPictures({"10000": falls}, {"10000": similar}) if rows else ReportPictures({}, {})
    path = folder / "report.html"
    path.write_text(render_report(summary, listed, photos, ABOUT, pictures, photos), encoding="utf-8")
    return path


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens a report; fails if the page says anything on the console or asks the network for anything."""
    said, contexts = [], []

    def open_page(*, width=1440, scheme="light", **more):
        context = chromium.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda asked: said.append(asked.url) if asked.url.startswith("http") else None)
        page.goto(page_of(tmp_path, **more).as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said


def shown(page):
    return page.locator(".list tbody tr:visible td:nth-child(3)").all_inner_texts()


@pytest.mark.parametrize("width", [1440, 820, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(opened, width, scheme):
    page = opened(width=width, scheme=scheme)
    assert page.title() == "bincount: which records are wrong"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg .curve").bounding_box()["width"] > 200
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    light, dark = (sum(map(int, colour[4:-1].split(","))) for colour in (paper, ink))
    assert (light > dark) == (scheme == "light")
    assert abs(light - dark) > 400
    loaded = page.evaluate("[...document.querySelectorAll('.list img')].map(image => image.naturalWidth)")
    assert loaded == [60, 60, 60, 60]  # three bins, and one of them before


def test_a_phone_shows_every_fact_of_a_bin(opened):
    page = opened(width=390)
    page.get_by_role("searchbox").fill("10000")
    assert shown(page) == ["10000"]
    for cell in page.locator(".list tbody tr:visible td[data-label]").all():
        box = cell.bounding_box()
        assert box["x"] >= 0, cell.get_attribute("data-label")
        assert box["x"] + box["width"] <= 390, cell.get_attribute("data-label")


def test_nothing_from_outside_is_run(opened):
    page = opened()
    page.wait_for_timeout(200)
    assert page.title() == "bincount: which records are wrong"
    assert HOSTILE in page.locator(".list tbody tr:nth-child(3)").inner_text()
    assert HOSTILE in page.locator("header").inner_text()


def test_the_page_itself_forbids_other_scripts_and_the_network(chromium, tmp_path):
    """Should something ever slip through unescaped."""
    path = page_of(tmp_path)
    slipped = "<img src=x onerror=\"document.title = 'run'\"><script>document.title = 'run'</script>"
    path.write_text(path.read_text().replace("<dialog", f"{slipped}<dialog"))
    page, failed = chromium.new_page(), {}
    page.on("requestfailed", lambda request: failed.update({request.url: request.failure}))
    page.goto(path.as_uri())
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    page.wait_for_timeout(200)
    assert page.title() == "bincount: which records are wrong"
    assert page.get_by_role("status").inner_text() == "24 of 24 rows"  # its own script ran
    assert failed["http://127.0.0.1:9/x.png"] == "csp"
    page.close()


def test_filter_and_sort(opened):
    page = opened()
    assert shown(page) == [f"{10_000 + place}" for place in range(24)]
    page.get_by_role("searchbox").fill("a-01")
    assert shown(page) == [f"{10_010 + place}" for place in range(10)]
    page.get_by_label("unsure").uncheck()
    assert "10013" not in shown(page)
    assert page.get_by_role("status").inner_text() == f"{len(shown(page))} of 24 rows"
    page.get_by_label("unsure").check()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="recorded").click()
    assert shown(page)[:4] == ["10000", "10007", "10014", "10021"]  # 0 each; equal ones as ranked
    assert shown(page)[-1] == "10003"  # nothing is recorded: last, whatever the direction
    page.get_by_role("button", name="recorded").click()
    assert shown(page)[0] == "10006"
    assert shown(page)[-1] == "10003"
    page.get_by_role("button", name="P(wrong)").click()
    assert shown(page)[0] == "10000"
    assert page.get_by_role("columnheader", name="P(wrong)").get_attribute("aria-sort") == "descending"


def test_the_keyboard_does_it_all(opened):
    page = opened()
    page.keyboard.press("/")
    page.keyboard.type("a-00")
    assert len(shown(page)) == 9
    page.keyboard.press("Escape")
    assert len(shown(page)) == 24
    for key in ("j", "j", "ArrowDown", "k"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.cells[2].textContent") == "10001"
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").inner_text() == f"bin 10001: {HOSTILE}"
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.cells[2].textContent") == "10000"


def test_a_list_of_nothing_is_a_page_too(opened):
    page = opened(rows=0)
    assert page.get_by_role("status").inner_text() == "0 of 0 rows"


def test_what_is_no_photo_by_now_is_left_out(tmp_path):
    from bincount.store.folder import FolderStore

    write_bin(tmp_path, "10000", recorded=1, image=photo(size=(800, 600)))
    write_bin(tmp_path, "10001", recorded=1, image=b"\xff\xd8")
    found = reduced_photos(FolderStore(str(tmp_path)), ["10000", "10001", "10002"])
    assert list(found) == ["10000"]
    assert len(found["10000"]) < 30_000


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photo_is_upright_whatever_else_its_exif_block_says(tmp_path, kind):
    """An orientation, and a resolution that is text."""
    from bincount.store.folder import FolderStore

    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHI4s", 0x011A, 2, 4, b"abc\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    file = io.BytesIO()
    Image.open(io.BytesIO(photo(size=(60, 40)))).save(file, kind, exif=exif)
    write_bin(tmp_path, "10000", recorded=1, image=file.getvalue())
    found = reduced_photos(FolderStore(str(tmp_path)), ["10000"])
    assert Image.open(io.BytesIO(found["10000"])).size == (40, 60)


@pytest.mark.parametrize("width", [1440, 820])
def test_a_drift_is_said_before_the_list(opened, width):
    page = opened(width=width, drift=DRIFT)
    assert page.locator("header ~ p strong").last.inner_text().startswith("These bins differ from the model")
    assert page.locator("details[open] tbody tr").all_inner_texts() == [
        "brightness\t112\t71\t1.200\t0.250",
        "recorded\t3.1\t3.2\t0.020\t0.250",
    ]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_no_drift_is_folded(opened):
    assert opened(drift={**DRIFT, "beyond": []}).locator("details[open]").count() == 0


def counted_worklist(day, *, found=0.1, beyond=()):
    """What counting the bins of a worklist found, as `decay_of` says it."""
    fact = {"bins": 50, "value": found, "expected": 0.25, "p_value": 0.0001, "limit": 0.003}
    facts = {"found": fact, "brier": {**fact, "value": 0.2}}
    return {"first": day, "last": day, "model_version": "7", "bins": 50, "facts": facts, "beyond": list(beyond)}


@pytest.mark.parametrize("width", [1440, 390])
def test_it_shows_what_counting_found_over_time(opened, width):
    days = [f"2026-11-{day:02d}" for day in range(1, 25)]
    worklists = [counted_worklist(day) for day in days[:-1]] + [counted_worklist(days[-1], found=0, beyond=["found"])]
    page = opened(decay=worklists, width=width)
    assert page.get_by_text("What people counted last is worse than the worklist stated: found.").is_visible()
    rows = page.locator("details[open] tbody tr").all_inner_texts()
    assert len(rows) == 20
    model = "7\t50\t" if width > 1000 else ""
    assert rows[0] == f"2026-11-05\t{model}10 % (25 %)\t\t0.200 (0.250)"
    assert rows[-1].startswith(f"2026-11-24\t{model}0 % (25 %)")
    assert page.locator("details[open] strong").all_inner_texts() == ["0 %"]
    assert "the last 20 of 24 counted worklists" in page.locator("details[open] summary").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("error_rate_from", "says"),
    [
        (TOLD, "was set for this run (--error-rate)."),
        (
            {"by": "outcomes", "outcomes": 1060, "low": 0.0153, "high": 0.124},
            "is estimated from 1,060 counted bins of this source (95 % interval 1.5 % to 12 %).",
        ),
        (
            {"by": "default", "outcomes": 7, "needed": 30},
            "is the default until 30 bins of this source are counted; 7 so far.",
        ),
        (
            {"by": "default", "outcomes": 40, "needed": 30},
            "is the default: the estimate from 40 counted bins of this source is not precise enough.",
        ),
    ],
)
def test_it_says_where_the_error_rate_is_from(tmp_path, error_rate_from, says):
    assert f"The error rate of 2 % {says}" in page_of(tmp_path, error_rate_from=error_rate_from).read_text()


def test_the_evidence_is_laid_over_the_photo_on_a_key_and_beside_it(opened):
    page = opened()
    page.locator(".list img").first.click()
    canvas = page.locator("dialog canvas")
    assert canvas.is_hidden()
    assert page.locator("dialog .similar figcaption").all_inner_texts() == ["4 counted on 2026-11-20", "2 counted"]
    page.keyboard.press("h")
    canvas.wait_for(state="visible")
    (red, blank), (was_red, was_blank) = page.evaluate("""() => {
        const shown = [...document.querySelectorAll("dialog .both figure:last-child > :is(canvas, img)")];
        const of = source => {
            const copy = document.createElement("canvas"), pen = copy.getContext("2d", { willReadFrequently: true });
            [copy.width, copy.height] = [source.naturalWidth ?? source.width, source.naturalHeight ?? source.height];
            pen.drawImage(source, 0, 0);
            return [[0.98, 0.02], [0.1, 0.9]].map(([x, y]) =>
                [...pen.getImageData(x * copy.width, y * copy.height, 1, 1).data]);
        };
        return ["CANVAS", "IMG"].map(name => of(shown.find(each => each.tagName === name)));
    }""")
    assert red != was_red
    assert red[2] <= was_red[2]  # less blue
    assert blank == was_blank
    page.keyboard.press("h")
    assert canvas.is_hidden()
    page.locator("dialog [data-does=heat]").click()
    canvas.wait_for(state="visible")
    page.keyboard.press("Enter")
    page.locator(".list img").nth(1).click()
    assert page.locator("dialog [data-does]:visible").count() == 0
    assert canvas.is_hidden()
    assert page.locator("dialog section").is_hidden()


def test_the_earlier_photo_is_shown_beside_and_over_the_present_one(opened):
    page = opened()
    row = page.locator(".list tbody tr", has=page.locator("img.before"))
    now, earlier = (row.locator(f"img{kind}").get_attribute("src") for kind in (":not(.before)", ".before"))
    assert now != earlier
    row.locator("img.before").click()
    both = page.locator("dialog .both img")
    assert [each.get_attribute("src") for each in both.all()] == [earlier, now]
    assert page.locator("dialog figcaption:visible").all_inner_texts()[:2] == ["before", "now"]
    boxes = [each.bounding_box() for each in both.all()]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"], "side by side"

    def on_top():
        box = both.nth(1).bounding_box()
        middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
        return page.evaluate("([x, y]) => document.elementFromPoint(x, y).src", middle)

    page.keyboard.press("Space")
    assert both.nth(0).bounding_box() == pytest.approx(both.nth(1).bounding_box()), "one over the other"
    assert on_top() == now
    page.keyboard.press("Space")
    assert on_top() == earlier
    page.keyboard.press("Space")
    assert on_top() == now
