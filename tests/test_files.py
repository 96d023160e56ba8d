"""Files that appear whole, and what becomes of damaged ones."""

import zipfile

import pytest

from bincount.files import is_whole_zip, read_json, rename_damaged, write_atomically, write_json


def test_what_is_written_is_there_and_nothing_beside_it(tmp_path):
    write_json(tmp_path / "note.json", {"a": [1, "é"]})
    assert read_json(tmp_path / "note.json") == {"a": [1, "é"]}
    assert [path.name for path in tmp_path.iterdir()] == ["note.json"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    write_atomically(tmp_path / "note", [b"before"])

    def chunks():
        yield b"half"
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_atomically(tmp_path / "note", chunks())
    assert (tmp_path / "note").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_an_absent_document_is_none(tmp_path):
    assert read_json(tmp_path / "absent.json") is None


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[1]", b"\xff\xfe\x00", b"null"])
def test_a_damaged_document_is_set_aside_and_said(tmp_path, caplog, content):
    path = tmp_path / "note.json"
    path.write_bytes(content)
    assert read_json(path) is None
    assert not path.exists()
    assert (tmp_path / "note.json.damaged").read_bytes() == content
    assert "is not what was written. It is set aside as note.json.damaged" in caplog.text


def test_what_is_gone_already_need_not_be_set_aside(tmp_path, caplog):
    rename_damaged(tmp_path / "absent")
    assert not caplog.text


def test_the_latest_damage_is_kept(tmp_path):
    for content in ("one", "two"):
        (tmp_path / "a").write_text(content)
        rename_damaged(tmp_path / "a")
    assert (tmp_path / "a.damaged").read_text() == "two"


def test_an_archive_is_whole_or_not(tmp_path):
    path = tmp_path / "model.keras"
    assert not is_whole_zip(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights", bytes(range(256)) * 40)
    content = path.read_bytes()
    assert is_whole_zip(path)
    for damaged in (content[: len(content) // 2], b"", content[:200] + b"\0" + content[201:]):
        path.write_bytes(damaged)
        assert not is_whole_zip(path)
