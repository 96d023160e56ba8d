"""Every photo of a shard once, in order; what is damaged is named."""

import numpy as np
import pytest

from bincount.errors import DataError
from bincount.learn.photo_batches import ids_of, load_photos, read_photos


def test_every_record_comes_exactly_once_in_order(manifest, shard_files):
    seen = []
    for path in shard_files.values():
        for ids, photos in read_photos(path, image_px=32, fit="pad", batch=7):
            assert photos.shape == (len(ids), 32, 32, 3)
            assert photos.dtype == np.uint8
            seen += ids
    assert seen == [record.id for record in manifest.records]
    assert seen == [bin_id for path in shard_files.values() for bin_id in ids_of(path)]


def test_reading_on_after_a_stop_gives_the_rest(shard_files):
    path = next(iter(shard_files.values()))
    rest = [bin_id for ids, _ in read_photos(path, image_px=32, fit="pad", batch=8, skip=13) for bin_id in ids]
    assert rest == ids_of(path)[13:]


def test_photos_loaded_by_place_are_those_read_in_order(manifest, shard_files):
    records = [manifest.records[50], manifest.records[3]]
    loaded = load_photos(records, list(shard_files.values()), image_px=32, fit="pad")
    read = {
        bin_id: photo
        for path in shard_files.values()
        for ids, photos in read_photos(path, image_px=32, fit="pad", batch=32)
        for bin_id, photo in zip(ids, photos, strict=True)
    }
    np.testing.assert_array_equal(loaded, np.stack([read[record.id] for record in records]))


def test_a_damaged_shard_is_named(shard_files, tmp_path):
    content = bytearray(next(iter(shard_files.values())).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "cut.tfrecord").write_bytes(content)
    with pytest.raises(DataError, match=r"shards/cut.tfrecord: every record must be whole"):
        list(read_photos(tmp_path / "cut.tfrecord", image_px=32, fit="pad", batch=8))
    with pytest.raises(DataError, match="a whole record must start at byte"):
        ids_of(tmp_path / "cut.tfrecord")


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(DataError, match=r"shards/gone.tfrecord: must exist"):
        ids_of(tmp_path / "gone.tfrecord")
