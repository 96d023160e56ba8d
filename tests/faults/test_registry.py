"""A registry that still names a version whose files are gone: a sentence that says so, and nothing else changes."""

import shutil

import pytest

from bincount.errors import DataError
from bincount.evaluate.evaluate import evaluate
from bincount.evaluate.predict import predict
from bincount.reconcile.reconcile import reconcile
from bincount.registry.gate import gate
from bincount.registry.promotion import promote
from bincount.tracking import model_registry
from bincount.tracking.client import mlflow_client
from tests.bins import write_bins
from tests.reconcile.reconciled import registered
from tests.serving.versions import name
from tests.stores import make_settings
from tests.tiny import photo


@pytest.fixture
def robbed(tmp_path):
    """A champion without artifacts, and a challenger with them."""
    settings = make_settings(tmp_path)
    versions = [registered(settings, seed=seed).rsplit("/", 1)[1] for seed in (1, 2)]
    name(settings, versions[0])
    with mlflow_client(settings, "tests") as client:
        place = client.get_model_version_download_uri(model_registry.MODEL, versions[0]).removeprefix("file://")
    shutil.rmtree(place)
    return settings, versions


def test_whoever_needs_the_champion_says_that_it_is_gone(robbed, tmp_path):
    settings, versions = robbed
    (tmp_path / "photo.jpg").write_bytes(photo())
    source = str(write_bins(tmp_path / "bins", 30))
    champion = f"models:/{model_registry.MODEL}@champion"
    calls = {
        "predict": lambda: predict(settings, files=[str(tmp_path / "photo.jpg")]),
        "evaluate": lambda: evaluate(settings, model=champion, source=source),
        "reconcile": lambda: reconcile(settings, source=source, model=champion, out=str(tmp_path / "out")),
        "gate": lambda: gate(settings, model_version=versions[1]),
    }
    for call in calls.values():
        with pytest.raises(
            DataError, match="version 1 of bincount: its files must be where the registry says, got none"
        ):
            call()
    assert not (tmp_path / "out").exists()
    assert model_registry.alias(settings, model_registry.CHAMPION) == versions[0]
    # Nobody is kept from putting another in its place.
    assert promote(settings, model_version=versions[1], force=True, reason="the champion's files are gone")["promoted"]
    assert predict(settings, files=[str(tmp_path / "photo.jpg")])["predictions"]
