"""Reads bins: an answer of a store becomes a bin's metadata or its photo, or a rejection with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bincount.dataset.metadata import Metadata, parse_metadata
from bincount.dataset.photo_check import check_photo
from bincount.dataset.rejection import InvalidObject, Rejection
from bincount.store.interface import FetchedObject


@dataclass(frozen=True)
class KeyTemplate:
    """How the objects of one kind are named in a bucket.

    Example:
        >>> PHOTOS.key("00001"), PHOTOS.id_of("bin-images/00001.jpg"), PHOTOS.id_of("bin-images/notes.txt")
        ('bin-images/00001.jpg', '00001', '')
    """

    prefix: str
    suffix: str

    def key(self, bin_id: str) -> str:
        """The key of a bin's object."""
        return f"{self.prefix}{bin_id}{self.suffix}"

    def id_of(self, key: str) -> str:
        """What stands in the place of the id; "" if the key is not of this kind."""
        name = key.removeprefix(self.prefix)
        return name.removesuffix(self.suffix) if name.endswith(self.suffix) else ""


PHOTOS = KeyTemplate("bin-images/", ".jpg")
METADATA = KeyTemplate("metadata/", ".json")


class Photo(NamedTuple):
    """A photo whose file is complete; its pixels are not decoded yet."""

    id: str
    data: bytes
    etag: str
    width_px: int
    height_px: int


def read_metadata(bin_id: str, answer: FetchedObject) -> Metadata | Rejection:
    """The metadata in a store's answer, or why the bin is set aside."""
    if answer.data is None:
        return Rejection(bin_id, f"metadata is {answer.problem}")
    return parse_or_reject(bin_id, answer.data)


def parse_or_reject(bin_id: str, data: bytes) -> Metadata | Rejection:
    """The metadata in a file's bytes, or why the bin is set aside."""
    try:
        return parse_metadata(bin_id, data)
    except InvalidObject as error:
        return Rejection(bin_id, error.reason, str(error))


def read_photo(bin_id: str, answer: FetchedObject) -> Photo | Rejection:
    """The photo in a store's answer, or why the bin is set aside."""
    if answer.data is None:
        return Rejection(bin_id, f"photo is {answer.problem}")
    try:
        header = check_photo(answer.data)
    except InvalidObject as error:
        return Rejection(bin_id, error.reason, f"{PHOTOS.key(bin_id)}: {error}")
    return Photo(bin_id, answer.data, answer.etag, header.width_px, header.height_px)
