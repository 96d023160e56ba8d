"""Photos at random: each bin once an epoch, mirrored and lit by the seed alone."""

import numpy as np
import pytest

from bincount.learn import photos as module
from bincount.learn.dataset import load_photos
from bincount.learn.photos import Photos, TrainingBatches, soft_targets


@pytest.fixture
def train(manifest, shard_files):
    return Photos(manifest, ["train"], list(shard_files.values()), image_px=32, fit="pad")


def batches_of(train, **changed):
    arguments = {"seed": 0, "epoch": 0, **changed}
    batches = TrainingBatches(train, soft_targets(5, 0.0), 16, **arguments)
    return [batches[index] for index in range(len(batches))]


@pytest.mark.parametrize("memory", [0, 10**9])
def test_rows_are_the_records_photos_decoded_once_or_each_time(manifest, shard_files, monkeypatch, memory):
    monkeypatch.setattr(module, "MEMORY_BYTES", memory)
    paths = list(shard_files.values())
    photos = Photos(manifest, ["train"], paths, image_px=32, fit="pad")
    records = manifest.part("train")
    rows = np.array([5, 0, 5, len(records) - 1])
    expected = load_photos([records[row] for row in rows], paths, image_px=32, fit="pad")
    for _ in range(2):
        np.testing.assert_array_equal(photos.read(rows), expected)
    assert photos.classes.tolist() == [record.recorded - 1 for record in records]


def test_an_epoch_has_every_bin_once_but_a_short_batchs(train):
    order = TrainingBatches(train, soft_targets(5, 0.0), 16, seed=0, epoch=0)._order
    assert sorted(order) == list(range(len(train)))
    assert len(batches_of(train)) == len(train) // 16
    assert {len(photos) for photos, _ in batches_of(train)} == {16}


def test_an_epoch_again_is_the_same_and_another_is_not(train):
    for (photos, targets), (again, targets_again) in zip(batches_of(train), batches_of(train), strict=True):
        np.testing.assert_array_equal(photos, again)
        np.testing.assert_array_equal(targets, targets_again)
    for changed in ({"epoch": 1}, {"seed": 1}):
        assert (batches_of(train)[0][0] != batches_of(train, **changed)[0][0]).any()


def test_photos_are_mirrored_and_lit_and_the_kept_ones_left_alone(train):
    kept = train.read(np.arange(len(train))).copy()
    seen = mirrored = 0
    for epoch in range(4):
        batches = TrainingBatches(train, soft_targets(5, 0.0), 16, seed=0, epoch=epoch)
        for index in range(len(batches)):
            rows = batches._order[index * 16 : (index + 1) * 16]
            for photo, original in zip(batches[index][0].astype(float), kept[rows].astype(float), strict=True):
                flat = original[:, ::-1].ravel()
                plain, flipped = (np.corrcoef(photo.ravel(), way)[0, 1] for way in (original.ravel(), flat))
                assert max(plain, flipped) > 0.97
                mirrored += flipped > plain
                seen += 1
    assert 0.35 < mirrored / seen < 0.65
    np.testing.assert_array_equal(train.read(np.arange(len(train))), kept)


@pytest.mark.parametrize(
    ("mix", "expected"),
    [(0.0, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]), (1.0, [[2 / 3, 1 / 3, 0], [0.25, 0.5, 0.25], [0, 1 / 3, 2 / 3]])],
)
def test_soft_targets_lean_to_the_neighbours(mix, expected):
    np.testing.assert_allclose(soft_targets(3, mix), expected, rtol=1e-6)
    np.testing.assert_allclose(soft_targets(7, 0.3).sum(axis=1), 1, rtol=1e-6)
