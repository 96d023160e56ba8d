"""How sharp and how bright a photo is."""

from __future__ import annotations

import tensorflow as tf

from bincount.learn.images import decode

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
