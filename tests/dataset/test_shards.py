import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.dataset.shards import decode_example, encode_example, frame_record, read_record
from bincount.errors import DataError


@given(st.text(max_size=50), st.integers(0, 2**40), st.binary(max_size=500), st.binary(max_size=300))
def test_an_example_reads_back(bin_id, recorded, image, metadata):
    payload = encode_example(bin_id=bin_id, recorded=recorded, image=image, metadata=metadata)
    assert decode_example(payload) == {
        "id": bin_id.encode(),
        "recorded": recorded,
        "image": image,
        "metadata": metadata,
    }


@given(st.binary(max_size=100), st.data())
def test_any_damaged_byte_is_noticed(payload, data):
    framed = bytearray(frame_record(payload))
    place = data.draw(st.integers(0, len(framed) - 1))
    framed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DataError, match="whole record must start at byte 0"):
        read_record(io.BytesIO(framed), 0)


def test_a_cut_record_is_noticed():
    framed = frame_record(b"photo")
    assert read_record(io.BytesIO(b"before" + framed), 6) == b"photo"
    for length in range(len(framed)):
        with pytest.raises(DataError):
            read_record(io.BytesIO(framed[:length]), 0)


def test_tensorflow_reads_what_was_written(tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = tmp_path / "0.tfrecord"
    payload = encode_example(bin_id="00523", recorded=300, image=b"\xff\xd8" * 40_000, metadata=b"{}")
    path.write_bytes(frame_record(payload) + frame_record(payload))
    read = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    assert read == [payload, payload]
    features = tf.train.Example.FromString(read[0]).features.feature
    assert features["id"].bytes_list.value[0] == b"00523"
    assert features["recorded"].int64_list.value[0] == 300
    assert features["image"].bytes_list.value[0] == b"\xff\xd8" * 40_000
