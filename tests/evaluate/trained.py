"""A workspace as `ingest` and `train` leave it, without running them."""

import json

import numpy as np

from bincount.counts import Counts
from bincount.dataset.groups import groups_of
from bincount.dataset.manifest import Manifest, Record, Shard
from bincount.dataset.shards import encode_example, frame_record
from bincount.dataset.split import part_of
from bincount.files import digest_of
from bincount.tracking import runs
from tests.bins import metadata
from tests.tiny import photo, write_model


def write_manifest(settings, *, ids=range(1, 401), counts="1-5", source="s3://aft-vbi-pds", siblings=(), side=None):
    """Ingests drawn photos: each shows as many boxes as it records, cubes of `side` inches if that is given.

    Returns the manifest's digest.
    """
    classes = Counts.parse(counts)
    names = [f"{number:05d}" for number in ids]
    skus = {name: [name] for name in names}
    for first, second in siblings:
        skus[second] = skus[first]
    groups = groups_of(names, skus)
    settings.shards.mkdir(parents=True, exist_ok=True)
    shard = f"{digest_of([names, counts])}.tfrecord"
    records, offset = [], 0
    with (settings.shards / shard).open("wb") as file:
        for name in names:
            recorded = classes.values[int(name) % len(classes)]
            size = (60, 40) if int(name) % 3 else (40, 60)
            data = photo(items=recorded, size=size, seed=int(name))
            framed = frame_record(
                encode_example(bin_id=name, recorded=recorded, image=data, metadata=metadata(recorded, side=side))
            )
            file.write(framed)
            records.append(
                Record(name, groups[name], recorded, part_of(name), recorded, *size, len(data), "", 0, offset)
            )
            offset += len(framed)
    return Manifest(source, classes, [Shard(shard, "", offset)], records).write(settings.manifests)


def open_trained_run(settings, manifest, *, attempt=None, **model):
    """A run with a trained model in its folder. Returns its id."""
    run_id = runs.open_run(settings, attempt=attempt)
    write_model(settings.run(run_id) / "model", manifest=manifest, **model)
    return run_id


def cheat(settings, run_id, ids_right, *, sure=0.999):
    """Rewrites an evaluation as if the model had known these ids, to see what the gate makes of it."""
    from bincount.evaluate.count_metrics import evaluate_predictions
    from bincount.evaluate.evaluate import read_evaluation

    evaluation, ids, _ = read_evaluation(settings, run_id)
    manifest = Manifest.read(settings.manifests, evaluation["facts"]["manifest"])
    records = [record for record in manifest.records if record.id in set(ids)]
    counts = Counts.parse(evaluation["facts"]["counts"])
    rng = np.random.default_rng(0)
    probabilities = np.full((len(ids), len(counts)), (1 - sure) / (len(counts) - 1))
    for row, record in enumerate(records):
        right = counts.index_of(record.recorded)
        wrong = (right + 1) % len(counts)
        probabilities[row, right if ids_right(record) and rng.random() < sure else wrong] = sure
    place = settings.run(run_id) / "evaluation"
    (place / "evaluation.json").write_text(
        json.dumps(evaluation | evaluate_predictions(probabilities, records, counts))
    )
    np.savez(place / "probabilities.npz", ids=np.asarray(ids), probabilities=probabilities)


def as_if_served(settings, version):
    """Notes what `check_serving` notes when it has found nothing wrong, without the 15 seconds."""
    from bincount.registry.serving_check import store_check

    store_check(settings, version, servable=True, reason="served, it answers right")
