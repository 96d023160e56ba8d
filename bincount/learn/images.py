"""From the bytes of a photo to a square of pixels: one way, for training and serving."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from bincount.config import FITS
from bincount.dataset.photo_check import FRAMES, MOST_PIXELS, START, frame_of, segments_of
from bincount.errors import ConfigError, DataError

if TYPE_CHECKING:
    import tensorflow as tf

PAD_VALUE = 127
"""Grey of the padding: near zero after any network's normalisation, so the border draws no edge."""

_RATIOS = (1, 2, 4)
_PNG = b"\x89PNG\r\n\x1a\n"


class ImageHeader(NamedTuple):
    """What a photo's header says of it; `format` is "jpeg" or "png"."""

    width_px: int
    height_px: int
    format: str


def check_image(data: bytes) -> ImageHeader:
    """Reads a photo's header without decoding it and without TensorFlow.

    Args:
        data: The file's bytes.

    Raises:
        DataError: If the bytes are neither JPEG nor PNG, end within the
            header, or promise no pixel or too many.
    """
    if data.startswith(_PNG):
        if len(data) < 24 or data[12:16] != b"IHDR":
            raise DataError(f"image: a PNG must start with a whole header, got {len(data)} bytes. Send the whole file.")
        width, height = struct.unpack(">II", data[16:24])
        header = ImageHeader(width, height, "png")
    elif data.startswith(START):
        header = ImageHeader(*_jpeg_size(data), "jpeg")
    else:
        raise DataError(f"image: must be a JPEG or PNG file, got {_shown(data)}. Send a photo as JPEG or PNG.")
    if not 0 < header.width_px * header.height_px <= MOST_PIXELS:
        raise DataError(
            f"image: must have 1 to {MOST_PIXELS:,} pixels, got {header.width_px} x {header.height_px}. "
            "Send a smaller photo."
        )
    return header


def decode(data: tf.Tensor | bytes, *, image_px: int, fit: str) -> tf.Tensor:
    """Decodes one photo to a square.

    The same graph eagerly, in tf.data and in a server. Large photos are first
    reduced by a whole factor to no less than the wanted size (a JPEG while it
    is decoded, a PNG by averaging), then resized bilinearly. At 224 px the mean
    absolute difference to a full-size antialiased resize was at most 3 of 255
    on each of 67 real bins, 1.2 on average (docs/log.md).

    Args:
        data: Bytes of one JPEG or PNG that `check_image` accepts: a scalar string.
        image_px: Side of the square.
        fit: "pad" keeps the aspect and pads with grey to both sides,
            "squash" scales each axis by itself.

    Returns:
        (image_px, image_px, 3) uint8, RGB.

    Raises:
        ConfigError: If `fit` is neither.
        tf.errors.InvalidArgumentError: If the pixels are damaged.
    """
    import tensorflow as tf

    if fit not in FITS:
        raise ConfigError(f"fit: must be one of {', '.join(FITS)}, got {fit!r}. Try pad.")
    data = tf.convert_to_tensor(data)
    image, target = tf.cond(
        tf.io.is_jpeg(data), lambda: _decode_jpeg(data, image_px, fit), lambda: _decode_png(data, image_px, fit)
    )
    image = tf.image.resize(image, target)  # bilinear: what aliasing could do the reduction has averaged away
    image = tf.cast(tf.round(image), tf.uint8)
    before = (image_px - target) // 2
    image = tf.pad(
        image,
        [[before[0], image_px - target[0] - before[0]], [before[1], image_px - target[1] - before[1]], [0, 0]],
        constant_values=PAD_VALUE,
    )
    return tf.ensure_shape(image, (image_px, image_px, 3))


def _decode_jpeg(data: tf.Tensor, image_px: int, fit: str) -> tuple[tf.Tensor, tf.Tensor]:
    """The picture at reduced size, and the height and width it is to have."""
    import tensorflow as tf

    size = tf.io.extract_jpeg_shape(data)[:2]
    target = _fitted(size, image_px, fit)
    branches = [lambda r=ratio: tf.io.decode_jpeg(data, channels=3, ratio=r) for ratio in _RATIOS]
    return tf.switch_case(_reduction(size, target), branches), target


def _decode_png(data: tf.Tensor, image_px: int, fit: str) -> tuple[tf.Tensor, tf.Tensor]:
    """As `_decode_jpeg`; averaging over squares is what a JPEG's reduced decoding amounts to."""
    import tensorflow as tf

    image = tf.io.decode_png(data, channels=3)
    size = tf.shape(image)[:2]
    target = _fitted(size, image_px, fit)

    def reduced(ratio: int) -> tf.Tensor:
        if ratio == 1:
            return image
        pooled = tf.nn.avg_pool2d(tf.cast(image, tf.float32)[None], ratio, ratio, "SAME")[0]
        return tf.cast(tf.round(pooled), tf.uint8)

    branches = [lambda r=ratio: reduced(r) for ratio in _RATIOS]
    return tf.switch_case(_reduction(size, target), branches), target


def _fitted(size: tf.Tensor, image_px: int, fit: str) -> tf.Tensor:
    """Height and width, int32 (2,), of the picture within the square."""
    import tensorflow as tf

    if fit == "squash":
        return tf.constant([image_px, image_px])
    scale = image_px / tf.reduce_max(size)  # float64: exact where float32 would round half a pixel away
    return tf.clip_by_value(tf.cast(tf.round(tf.cast(size, tf.float64) * scale), tf.int32), 1, image_px)


def _reduction(size: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Index into _RATIOS: the strongest reduction that leaves each side at least as long as it ends."""
    import tensorflow as tf

    return sum(tf.cast(tf.reduce_all(size >= ratio * target), tf.int32) for ratio in _RATIOS[1:])


def _jpeg_size(data: bytes) -> tuple[int, int]:
    frame = next((frame_of(segment) for segment in segments_of(data) if segment.marker in FRAMES), None)
    if frame is None:
        raise DataError(
            f"image: a JPEG must have a whole header, got {len(data)} bytes without one. Send the whole file."
        )
    return frame.width_px, frame.height_px


def _shown(data: bytes) -> str:
    return f"{data[:12]!r}" if data else "no bytes"


_SIDE_PX = 224

_decode = tf.function(
    lambda photo: decode(photo, image_px=_SIDE_PX, fit="squash"), input_signature=[tf.TensorSpec((), tf.string)]
)


def sharpness_of(photo: bytes) -> float:
    """Measures how much detail a photo shows: the variance of its Laplacian.

    Taken of its grey values at 224 x 224 px, so that photos of different sizes
    compare. Motion and a lens out of focus lower it; so does an empty bin.

    Args:
        photo: Bytes of one JPEG or PNG that can be decoded.

    Returns:
        Squared grey values of 0 to 255, 0 for one plain colour.

    Source:
        Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, 2000.
    """
    return float(looks_of(_decode(tf.constant(photo))[None])[1][0])


@tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
def looks_of(photos: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Measures brightness and sharpness of decoded photos.

    Args:
        photos: (N, H, W, 3) uint8 RGB, as the network sees them.

    Returns:
        (N,) mean grey values, 0 to 255, and (N,) variances of the Laplacian: see `sharpness_of`.
    """
    grey = tf.tensordot(tf.cast(photos, tf.float32), tf.constant([0.299, 0.587, 0.114]), 1)
    inner = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return tf.reduce_mean(grey, (1, 2)), tf.math.reduce_variance(around - 4 * inner, (1, 2))
