"""The reader of bins: what a store answers becomes metadata or a photo, or a rejection with its reason."""

from __future__ import annotations

from typing import NamedTuple

from bincount.dataset.keys import photo_key
from bincount.dataset.metadata import Metadata, parse_metadata
from bincount.dataset.photo_check import PhotoHeader, check_photo
from bincount.dataset.rejection import InvalidObject, Rejection
from bincount.store.interface import FetchedObject


class Photo(NamedTuple):
    """A photo whose file is whole; its pixels are not decoded.

    Attributes:
        id: The bin's id.
        data: The file's bytes.
        etag: The store's tag of it, "" where it has none.
        header: Size, format and orientation.
    """

    id: str
    data: bytes
    etag: str
    header: PhotoHeader


def metadata_of(bin_id: str, answer: FetchedObject) -> Metadata | Rejection:
    """The metadata in a store's answer, or why the bin is set aside."""
    if answer.data is None:
        return Rejection(bin_id, f"metadata is {answer.problem}")
    try:
        return parse_metadata(bin_id, answer.data)
    except InvalidObject as error:
        return Rejection(bin_id, error.reason, str(error))


def photo_of(bin_id: str, answer: FetchedObject) -> Photo | Rejection:
    """The photo in a store's answer, or why the bin is set aside."""
    if answer.data is None:
        return Rejection(bin_id, f"photo is {answer.problem}")
    try:
        return Photo(bin_id, answer.data, answer.etag, check_photo(answer.data, photo_key(bin_id)))
    except InvalidObject as error:
        return Rejection(bin_id, error.reason, str(error))
