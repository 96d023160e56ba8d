"""Pictures of a record: where the network saw items, and counted bins that look alike."""

import io

import numpy as np
import pytest
from PIL import Image

from bincount.learn.predictor import Predictor
from bincount.outcomes.confirmed import Confirmed
from bincount.outcomes.import_outcomes import import_outcomes
from bincount.reconcile.reconcile import reconcile
from bincount.reconcile.report_pictures import SIMILAR, heat_of, report_pictures_of
from bincount.store.folder import FolderStore
from tests.bins import write_bin
from tests.reconcile.reconciled import registered, write_records, write_source
from tests.stores import make_settings
from tests.tiny import photo, write_model


@pytest.fixture
def predictor(tmp_path):
    write_model(tmp_path / "model", sharpness=20.0)
    return Predictor(tmp_path / "model")


def test_the_same_photo_under_another_id_is_the_most_alike(predictor, tmp_path):
    recorded = write_source(tmp_path / "bins")
    ids = list(recorded)
    write_bin(tmp_path / "bins", "20000", recorded=3, image=photo(items=recorded[ids[7]], seed=int(ids[7])))
    write_bin(tmp_path / "bins", ids[3], recorded=3, image=b"no photo")
    confirmed = [Confirmed(bin_id, count, "2026-11-20") for bin_id, count in recorded.items()]
    pictures = report_pictures_of(
        FolderStore(str(tmp_path / "bins")), predictor, ["20000", ids[3], "29999", ids[0]], confirmed
    )
    assert set(pictures.falls) == set(pictures.similar) == {"20000", ids[0]}
    assert pictures.similar["20000"][0] == confirmed[7]
    assert len(pictures.similar["20000"]) == SIMILAR
    assert ids[0] not in {each.photo for each in pictures.similar[ids[0]]}


def test_too_few_counted_bins_are_compared_with_nothing(predictor, tmp_path):
    recorded = write_source(tmp_path / "bins", bins=19)
    confirmed = [Confirmed(bin_id, count, "") for bin_id, count in recorded.items()]
    pictures = report_pictures_of(FolderStore(str(tmp_path / "bins")), predictor, ["10000"], confirmed)
    assert set(pictures.falls) == {"10000"}
    assert pictures.similar == {}


def test_heat_is_where_hiding_lowers_the_count():
    falls = np.full((8, 8), -0.5, np.float32)
    falls[2, 5] = 0.05
    pale = np.asarray(Image.open(io.BytesIO(heat_of(falls))))[..., 3]
    falls[2, 5] = 2.0
    full = np.asarray(Image.open(io.BytesIO(heat_of(falls))))[..., 3]
    assert 0 < pale[2, 5] < full[2, 5] == full.max()
    assert np.count_nonzero(full) == 1


def test_a_report_shows_what_was_counted_before(tmp_path):
    settings = make_settings(tmp_path)
    model, recorded = registered(settings), write_source(tmp_path / "bins")
    arguments = {"source": str(tmp_path / "bins"), "model": model}
    reconcile(settings, **arguments, out=str(tmp_path / "first"))
    page = (tmp_path / "first" / "report.html").read_text()
    assert page.count("data-heat=") == 30
    assert "<template>" not in page
    rows = [(bin_id, count, "2026-11-20") for bin_id, count in recorded.items()]
    counted = write_records(tmp_path / "c.csv", rows, ("id", "counted", "when"))
    import_outcomes(settings, file=counted, worklist=str(tmp_path / "first"))
    file = write_records(tmp_path / "r.csv", [(bin_id, 2) for bin_id in list(recorded)[:9]])
    confirmed = str(tmp_path / "first" / "confirmed.csv")
    reconcile(settings, **arguments, records=file, confirmed=confirmed, capacity=4, out=str(tmp_path / "second"))
    page = (tmp_path / "second" / "report.html").read_text()
    assert page.count("data-heat=") == page.count("<template>") == 4
    assert page.count("counted on 2026-11-20") == 4 * SIMILAR
