"""Files that are cut short: noticed by their digest or checksum, set aside, and made again as they were."""

import json
import shutil

import pytest

from bincount.dataset import placement
from bincount.dataset.ingest import collect
from bincount.errors import DataError
from bincount.learn.prepare import prepare
from bincount.learn.train import train
from bincount.learn.tune import tune
from bincount.settings import Settings
from bincount.tracking import runs
from tests.bins import write_bins as write_source
from tests.learn.bins import write_bins
from tests.learn.featured import open_prepared_run
from tests.stores import make_settings

# KerasTuner 1.4.8 names its threads as Python 2 did.
pytestmark = pytest.mark.filterwarnings(r"ignore:(currentThread|getName)\(\) is deprecated:DeprecationWarning")


def cut(path):
    """Loses the second half, as a disk that was not written out does. Returns what was there."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return content


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """A folder of bins, and a workspace that has them."""
    place = tmp_path_factory.mktemp("ingested")
    bins = write_source(place / "bins", 300)
    settings = Settings(place / "data", "", place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "SHARD_BYTES", 100_000)
        yield settings, str(bins), collect(settings, source=str(bins))


@pytest.mark.parametrize("which", ["shards/*.tfrecord", "shards/*.json", "manifests/*.jsonl", "ingests/*/done.json"])
def test_what_ingest_has_written(ingested, which, tmp_path):
    whole, source, summary = ingested
    shutil.copytree(whole.workspace, tmp_path / "data")
    settings = Settings(tmp_path / "data", "", tmp_path)
    path = sorted(settings.workspace.glob(which))[0]
    content = cut(path)
    if which == "shards/*.json":  # a shard's index is asked for where the manifest is not there
        for manifest in settings.manifests.glob("*.jsonl"):
            manifest.unlink()
    assert collect(settings, source=source) == summary
    assert path.read_bytes() == content
    aside = path.with_name(f"{path.name}.damaged")
    assert aside.read_bytes() == content[: len(content) // 2]
    for shard in whole.shards.glob("*.tfrecord"):
        assert (settings.shards / shard.name).read_bytes() == shard.read_bytes()


def test_the_network_of_cached_features(tmp_path):
    settings = make_settings(tmp_path)
    manifest, run_id = write_bins(settings.workspace, bins=60), runs.open_run(settings)
    asked = {"run_id": run_id, "manifest": manifest, "backbone": "MobileNetV3Small", "weights": "none", "image_px": 32}
    answer = prepare(settings, **asked)
    folder = settings.features / answer["features"][:16]
    cut(folder / "backbone.keras")
    for path in folder.glob("*.npy"):  # so that the network is needed
        path.unlink()
    with pytest.raises(DataError, match=r"got a damaged file or none. Run `bincount prepare` again"):
        tune(settings, run_id=run_id, features=answer["features"])
    assert prepare(settings, **asked) == answer
    assert (folder / "backbone.keras.damaged").exists()
    # The note of the run, too.
    cut(settings.run(run_id) / "prepare.json")
    assert prepare(settings, **asked) == answer


def test_what_learning_has_written(tmp_path):
    settings = make_settings(tmp_path)
    run_id, prepared = open_prepared_run(settings)
    folder = settings.run(run_id)
    best = tune(settings, run_id=run_id, features=prepared, trials=1, max_epochs=3)
    cut(folder / "search" / "best.json")
    assert tune(settings, run_id=run_id, features=prepared, trials=1, max_epochs=3) == best
    answer = train(settings, run_id=run_id, features=prepared)
    for name in ("model.keras", "model.json"):
        cut(folder / "model" / name)
        assert train(settings, run_id=run_id, features=prepared) == answer
        json.loads((folder / "model" / "model.json").read_text())
