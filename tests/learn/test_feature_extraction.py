"""Features once: whole, in order, resumed after a kill, rebuilt when damaged."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bincount.errors import DataError
from bincount.learn.feature_extraction import extract_features, keras_forward, missing_features, read_examples
from bincount.learn.photo_batches import load_photos


@pytest.fixture(scope="module")
def cache(tmp_path_factory, shard_files, extractor):
    folder = tmp_path_factory.mktemp("features")
    told = []
    extract_features(
        folder,
        shard_files,
        keras_forward(extractor, 32),
        width=24,
        image_px=32,
        fit="pad",
        on_progress=lambda *seen: told.append(seen),
    )
    assert [done for done, _, _ in told] == sorted({done for done, _, _ in told})
    assert told[-1][:2] == (120, 120)
    return folder


def content_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_each_record_has_its_own_features_in_both_views(cache, manifest, shard_files, extractor):
    for part in ("train", "validation", "calibration", "test"):
        records = manifest.part(part)
        examples = read_examples(cache, manifest, part)
        assert examples.classes.tolist() == [record.recorded - 1 for record in records]
        assert examples.features.dtype == np.float16
        photos = load_photos(records, list(shard_files.values()), image_px=32, fit="pad")
        for view, seen in enumerate((photos, photos[:, :, ::-1])):
            expected = np.asarray(extractor(np.ascontiguousarray(seen), training=False))
            np.testing.assert_allclose(examples.features[:, view], expected, rtol=2e-3, atol=2e-3)


def test_nothing_is_missing_afterwards_and_nothing_else_is_left(cache, manifest):
    assert missing_features(cache, manifest.shards) == []
    assert {path.suffix for path in cache.iterdir()} == {".npy", ".json"}


@pytest.mark.parametrize("damage", ["truncated", "changed", "no note", "empty note", "gone"])
def test_a_damaged_file_is_noticed_and_rebuilt_alike(damage, cache, manifest, shard_files, extractor, tmp_path):
    for name, content in content_of(cache).items():
        (tmp_path / name).write_bytes(content)
    shard = manifest.shards[1]
    path = tmp_path / f"{shard.sha256[:16]}.npy"
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[:-100])
    elif damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "gone":
        path.unlink()
    else:
        path.with_suffix(".json").write_text("" if damage == "empty note" else "{}")
    assert missing_features(tmp_path, manifest.shards) == [shard]
    extract_features(
        tmp_path, {shard: shard_files[shard]}, keras_forward(extractor, 32), width=24, image_px=32, fit="pad"
    )
    asides = [aside.name for aside in tmp_path.glob("*.damaged")]
    expected = {"truncated": [path.name], "changed": [path.name], "empty note": [f"{path.stem}.json"]}.get(damage, [])
    assert asides == [f"{name}.damaged" for name in expected]
    for name in asides:
        (tmp_path / name).unlink()
    assert content_of(tmp_path) == content_of(cache)


def test_what_a_killed_run_had_computed_is_used(cache, manifest, shard_files, extractor, tmp_path):
    shard = manifest.shards[0]
    whole = np.load(cache / f"{shard.sha256[:16]}.npy")
    marked = whole[:32].copy()
    marked[:, 0, 0] = 7.0  # what is kept must be seen in the result
    (tmp_path / f"{shard.sha256[:16]}.partial").write_bytes(marked.tobytes() + b"half a row")
    told = []
    extract_features(
        tmp_path,
        {shard: shard_files[shard]},
        keras_forward(extractor, 32),
        width=24,
        image_px=32,
        fit="pad",
        on_progress=lambda *seen: told.append(seen),
    )
    resumed = np.load(tmp_path / f"{shard.sha256[:16]}.npy")
    assert (resumed[:32, 0, 0] == 7.0).all()
    np.testing.assert_allclose(resumed[32:], whole[32:], rtol=2e-3, atol=1e-3)
    assert told[0][:2] == (40, 40)


KILLED = """
import sys, time
from pathlib import Path
import keras
from bincount.dataset.manifest import Manifest
from bincount.learn.feature_extraction import extract_features, keras_forward
folder, manifests, digest, network = sys.argv[1:]
manifest = Manifest.read(Path(manifests), digest)
shards = {shard: Path(manifests).parent / "shards" / shard.name for shard in manifest.shards}
def tell(done, total, rate):
    print(done, flush=True)
    time.sleep(1)
forward = keras_forward(keras.saving.load_model(network), 32)
extract_features(Path(folder), shards, forward, width=24, image_px=32, fit="pad", on_progress=tell)
"""


def test_kill_9_and_again_gives_the_same_features(cache, manifest, workspace, shard_files, extractor, tmp_path):
    extractor.save(tmp_path / "backbone.keras")
    (digest,) = [path.stem for path in (workspace / "manifests").iterdir()]
    arguments = [str(tmp_path / "features"), str(workspace / "manifests"), digest, str(tmp_path / "backbone.keras")]
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "32\n"
        assert process.stdout.readline() == "40\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    missing = missing_features(tmp_path / "features", manifest.shards)
    assert missing
    extract_features(
        tmp_path / "features",
        {shard: shard_files[shard] for shard in missing},
        keras_forward(extractor, 32),
        width=24,
        image_px=32,
        fit="pad",
    )
    for shard in manifest.shards:
        name = f"{shard.sha256[:16]}.npy"
        np.testing.assert_array_equal(np.load(tmp_path / "features" / name), np.load(cache / name))


def test_a_record_without_features_is_said(cache, manifest, tmp_path):
    for name, content in content_of(cache).items():
        (tmp_path / name).write_bytes(content)
    note = tmp_path / f"{manifest.shards[0].sha256[:16]}.json"
    written = json.loads(note.read_text())
    note.write_text(json.dumps({**written, "ids": ["other"] * len(written["ids"])}))
    with pytest.raises(DataError, match="must hold every bin that the manifest lists for it"):
        read_examples(tmp_path, manifest, "train")
