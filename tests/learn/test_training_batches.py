"""Photos at random: each bin once an epoch, mirrored and lit by the seed alone."""

import numpy as np
import pytest

from bincount.learn import photo_batches as module
from bincount.learn.photo_batches import Photos, TrainingBatches, load_photos, soft_targets


@pytest.fixture
def train(manifest, shard_files):
    return Photos(manifest, ["train"], list(shard_files.values()), manifest.counts, image_px=32, fit="pad")


def batches_of(train, **changed):
    arguments = {"seed": 0, "epoch": 0, **changed}
    batches = TrainingBatches(train, soft_targets(5, 0.0), 16, **arguments)
    return [batches[index] for index in range(len(batches))]


@pytest.mark.parametrize("memory", [0, 10**9])
def test_rows_are_the_records_photos_decoded_once_or_each_time(manifest, shard_files, monkeypatch, memory):
    monkeypatch.setattr(module, "MEMORY_BYTES", memory)
    paths = list(shard_files.values())
    photos = Photos(manifest, ["train"], paths, manifest.counts, image_px=32, fit="pad")
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


def test_photos_are_mirrored_moved_and_lit_and_the_kept_ones_left_alone(train):
    kept = train.read(np.arange(len(train))).copy()
    ways: dict[tuple[bool, int, int], int] = {}
    for epoch in range(4):
        batches = TrainingBatches(train, soft_targets(5, 0.0), 16, seed=0, epoch=epoch)
        for index in range(len(batches)):
            rows = batches._order[index * 16 : (index + 1) * 16]
            for photo, original in zip(batches[index][0].astype(float), kept[rows].astype(float), strict=True):
                # Away from the edges it is one of few pictures, but for its light.
                seen = {
                    (mirrored, down, right): np.corrcoef(
                        photo[4:-4, 4:-4].ravel(),
                        np.roll(original[:, ::-1] if mirrored else original, (down, right), (0, 1))[4:-4, 4:-4].ravel(),
                    )[0, 1]
                    for mirrored in (False, True)
                    for down in (-2, -1, 0, 1, 2)
                    for right in (-2, -1, 0, 1, 2)
                }
                way = max(seen, key=seen.__getitem__)
                assert seen[way] > 0.97
                ways[way] = ways.get(way, 0) + 1
    assert 0.35 < sum(n for (mirrored, _, _), n in ways.items() if mirrored) / sum(ways.values()) < 0.65
    assert {down for _, down, _ in ways} == {right for *_, right in ways} == {-2, -1, 0, 1, 2}
    np.testing.assert_array_equal(train.read(np.arange(len(train))), kept)


@pytest.mark.parametrize(
    ("mix", "expected"),
    [(0.0, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]), (1.0, [[2 / 3, 1 / 3, 0], [0.25, 0.5, 0.25], [0, 1 / 3, 2 / 3]])],
)
def test_soft_targets_lean_to_the_neighbours(mix, expected):
    np.testing.assert_allclose(soft_targets(3, mix), expected, rtol=1e-6)
    np.testing.assert_allclose(soft_targets(7, 0.3).sum(axis=1), 1, rtol=1e-6)
