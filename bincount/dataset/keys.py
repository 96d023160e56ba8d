"""Object keys of bins: where a bucket, or a folder in its layout, holds photos and metadata."""

from __future__ import annotations

PHOTO_PREFIX, PHOTO_SUFFIX = "bin-images/", ".jpg"
METADATA_PREFIX, METADATA_SUFFIX = "metadata/", ".json"


def photo_key(bin_id: str) -> str:
    """The key of a bin's photo.

    Example:
        >>> photo_key("00523")
        'bin-images/00523.jpg'
    """
    return f"{PHOTO_PREFIX}{bin_id}{PHOTO_SUFFIX}"


def bin_id_of(photo: str) -> str:
    """The id of the bin on a photo, from the photo's key or address.

    Example:
        >>> bin_id_of("s3://bins/bin-images/00523.jpg")
        '00523'
    """
    return photo.rpartition("/")[2].removesuffix(PHOTO_SUFFIX)


def metadata_key(bin_id: str) -> str:
    """The key of a bin's metadata.

    Example:
        >>> metadata_key("00523")
        'metadata/00523.json'
    """
    return f"{METADATA_PREFIX}{bin_id}{METADATA_SUFFIX}"
