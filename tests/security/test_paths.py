"""Whatever is said from outside, nothing is read or written outside the workspace: a property of every door."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bincount.dataset.candidates import list_candidates
from bincount.dataset.ids import ids_in_range, parse_ids
from bincount.dataset.job import IngestJob
from bincount.dataset.manifest import Manifest
from bincount.dataset.metadata import is_bin_id
from bincount.errors import BincountError, DataError
from bincount.learn.feature_cache import read_features
from bincount.local.embedded_s3 import list_objects
from bincount.settings import Settings
from bincount.store.open_store import open_store
from bincount.store.s3 import S3Store
from bincount.store.s3_connection import check_bucket_name
from bincount.tracking import model_registry

PIECES = [
    "..",
    "/",
    "\\",
    ".",
    "~",
    "\0",
    "%2e%2e",
    "%2F",
    "a",
    "0" * 16,
    "-",
    "é",
    "\u2025",
    "\n",
    "C:",
    "$HOME",
    "`id`",
]
HOSTILE = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join),
    st.sampled_from(["../../etc/passwd", "/etc/passwd", "..", "", "a/../../b", "0" * 16 + "/../../x", "runs\0x"]),
)
ROOM = Path("/room/data")
SETTINGS = Settings(ROOM, "sqlite://", ROOM)


def is_inside(path, folder=ROOM):
    """Whether a path stays in a folder, links aside: none is made of what comes from outside."""
    if "\0" in str(path):
        return False
    parts = Path(path).parts
    return ".." not in parts and Path(path).is_relative_to(folder) and Path(path) != folder


@given(HOSTILE)
@example("../x")
def test_a_run(text):
    try:
        folder = SETTINGS.run(text)
    except BincountError:
        return
    assert is_inside(folder)


@given(HOSTILE)
@example("../x")
def test_a_request(text):
    try:
        folder = IngestJob.of(SETTINGS, text).folder
    except BincountError:
        return
    assert is_inside(folder)


@given(text=HOSTILE)
@example(text="../outside")
def test_a_manifest_and_features(text, tmp_path_factory):
    """A file beside the workspace that would be found if the name were followed is not."""
    place = tmp_path_factory.getbasetemp() / "paths"
    for name in ("data/manifests", "data/features", "data/features/" + "0" * 16):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / "data" / "outside.jsonl").write_text("{}")
    settings = Settings(place / "data", "sqlite://", place)
    with pytest.raises(DataError, match="must exist in the workspace"):
        Manifest.read(settings.manifests, text)
    with pytest.raises(BincountError, match="must be a key that prepare printed"):
        read_features(settings, text)


@given(HOSTILE)
@example("../523")
def test_a_bins_id(text):
    """Ids name objects, files in a source, golden photos and lines of lists."""
    if is_bin_id(text):
        assert is_inside(ROOM / "metadata" / f"{text}.json")
        assert not {"/", "\\", "\0", "\n"} & set(text)


@given(HOSTILE)
@example("../523\n")
def test_ids_in_a_file_and_in_a_range(text):
    try:
        ids = [*parse_ids(text, name="ids"), *(ids_in_range(text) or [])]
    except BincountError:
        return
    assert all(map(is_bin_id, ids))


@given(HOSTILE)
@example("@champion/../../x")
def test_a_models_address(text):
    """No address but the registry's own is opened: no file, no other server."""
    for uri in (text, f"models:/{text}", f"models:/bincount/{text}"):
        try:
            version = model_registry.version_named(SETTINGS, uri) if "@" not in uri else None
        except BincountError:
            continue
        assert version is None or version.isdigit()


@given(HOSTILE)
@example("bucket/../../other")
def test_a_bucket(text):
    try:
        store = S3Store(f"s3://{text}", SETTINGS)
    except BincountError:
        return
    bucket = store.source.removeprefix("s3://").partition("/")[0]
    check_bucket_name(bucket)
    assert store.source.startswith(f"s3://{bucket}")


def test_a_source_and_what_is_beside_it(tmp_path):
    """A link out of a served folder is not followed, and a name that is no id is left alone."""
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "bins"
    for part in ("bin-images", "metadata"):
        (folder / part).mkdir(parents=True)
    (folder / "bin-images" / "1.jpg").symlink_to(tmp_path / "secret")
    (folder / "bin-images" / "2.jpg").write_bytes(b"x")
    for number in (1, 2):
        (folder / "metadata" / f"{number}.json").write_text("{}")
    (folder / "metadata" / "a b.json").write_text("{}")
    assert "bin-images/1.jpg" not in list_objects(folder)
    assert set(list_candidates(open_store(str(folder), SETTINGS)).ids) == {"1", "2"}
