"""What each step asks of a workspace's bucket: requests and bytes are money, and at 20 ms a request time."""

import json
from collections import Counter

import pytest

from bincount.dataset import placement
from bincount.dataset.fetch import fetch
from bincount.dataset.ingest import ingest
from bincount.dataset.plan import plan
from bincount.evaluate.evaluate import evaluate
from bincount.learn.prepare import prepare
from bincount.learn.train import train
from bincount.reconcile.reconcile import reconcile
from bincount.registry.promotion import promote
from bincount.registry.register import register
from bincount.store.workspace import open_workspace
from bincount.tracking import runs
from tests.bins import write_bins as write_source_bins
from tests.learn.bins import write_bins
from tests.reconcile.reconciled import write_source
from tests.stores import make_settings

NETWORK = {"backbone": "MobileNetV3Small", "weights": "none", "image_px": 32}
FOUND = {"learning_rate": 2e-2, "batch_size": 32, "epochs": 6, "units": 16, "dropout": 0.1}
EPOCHS = 3


@pytest.fixture
def settings(tmp_path, moto_endpoint, new_bucket):
    _, bucket = new_bucket(moto_endpoint)
    return make_settings(tmp_path, remote=f"s3://{bucket}/work", buckets={bucket: moto_endpoint})


class Till:
    """Runs steps, and keeps what each asked for."""

    def __init__(self, settings):
        self.settings, self.spent = settings, {}

    def __call__(self, name, step, **arguments):
        usage = open_workspace(self.settings).usage
        before = Counter(usage)
        answer = step(self.settings, **arguments)
        self.spent[name] = {kind: usage[kind] - before[kind] for kind in usage}
        print(name, self.spent[name])
        return answer

    def check(self, name, **most):
        spent = self.spent[name]
        over = {kind: spent.get(kind, 0) for kind in most if spent.get(kind, 0) > most[kind]}
        assert not over, f"{name}: at most {most}, got {over}"


def test_an_ingest(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "SHARD_BYTES", 30_000)
    source, till = str(write_source_bins(tmp_path / "bins", bins=400)), Till(settings)
    planned = till("plan", plan, source=source)
    shards = planned["shards"]
    assert shards > 10
    till("fetch", fetch, plan=planned["plan"])
    till("join", ingest, source=source)
    till("again", ingest, source=source)
    till.check("plan", get=4, put=4, list=1, delete=0, lease=4)
    till.check("fetch", get=shards + 6, put=2 * shards, list=1, delete=0, lease=4)
    till.check("join", get=2 * shards + 12, put=5, list=4, delete=1, lease=16)
    till.check("again", get=shards + 12, put=0, list=4, delete=0, lease=16)
    assert till.spent["fetch"].get("pulled", 0) < 1000
    assert till.spent["again"]["pushed"] == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
# KerasTuner 1.4.8 names its threads as Python 2 did.
@pytest.mark.filterwarnings(r"ignore:(currentThread|getName)\(\) is deprecated:DeprecationWarning")
def test_a_chain(settings, tmp_path):
    manifest, shards, till = write_bins(settings.workspace, bins=200), 3, Till(settings)
    open_workspace(settings).push(settings.workspace)
    run_id = runs.open_run(settings)
    features = till("prepare", prepare, run_id=run_id, manifest=manifest, **NETWORK)["features"]
    search = settings.run(run_id) / "search"
    search.mkdir(parents=True)
    (search / "best.json").write_text(json.dumps({"features": features, "best": FOUND}))
    open_workspace(settings).push(search)
    till("train", train, run_id=run_id, features=features, fine_tune_epochs=EPOCHS)
    till("evaluate", evaluate, run_id=run_id)
    till("register", register, run_id=run_id)
    till("promote", promote, model_version="1", force=True, reason="it is the first")
    write_source(tmp_path / "source", bins=60)
    till("reconcile", reconcile, source=str(tmp_path / "source"), model="models:/bincount/1", out=str(tmp_path / "out"))
    till.check("prepare", get=12 + 5 * shards, put=8 + 2 * shards, list=4, delete=0, lease=10 + 5 * shards)
    till.check("train", get=20 + 6 * shards, put=EPOCHS + 12, list=8, delete=4, lease=0)
    till.check("evaluate", get=20, put=14, list=8, delete=2, lease=4)
    till.check("register", get=24, put=10, list=8, delete=0, lease=4)
    till.check("promote", get=4, put=0, list=4, delete=0, lease=4)
    till.check("reconcile", get=4, put=1, list=2, delete=1, lease=4)
