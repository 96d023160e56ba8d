"""How sharp a photo is."""

from __future__ import annotations

import numpy as np
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
    red, green, blue = np.moveaxis(_decode(tf.constant(photo)).numpy(), 2, 0)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * inner).var())
