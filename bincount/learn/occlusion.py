"""Occlusion maps: how far the predicted count falls when a part of the photo is hidden."""

from __future__ import annotations

import numpy as np

from bincount.learn.predictor import Predictor

CELLS = 6
"""A map has so many rows and columns."""

_WINDOW = 2  # cells on a side of what is hidden at a time


def occlusion_map(predictor: Predictor, photo: bytes) -> np.ndarray:
    """Computes where in a photo the network saw items, for any network and without gradients.

    A window a third of the photo wide and high, in the photo's mean colour, is moved over it by half its
    size. A cell has the average fall of the windows that hide it.

    Args:
        predictor: The model.
        photo: Bytes of a JPEG or PNG file.

    Returns:
        (CELLS, CELLS) float32 over the photo, in items; negative where hiding raises the expected count.

    Raises:
        RowError: If the photo cannot be decoded.

    Source:
        Zeiler and Fergus, Visualizing and understanding convolutional networks (2014, arXiv 1311.2901), section 4.2.
    """
    square, box = predictor.decode(photo)
    places = [(row, column) for row in range(CELLS - _WINDOW + 1) for column in range(CELLS - _WINDOW + 1)]
    hidden = [hide(square, box, row / CELLS, column / CELLS, _WINDOW / CELLS) for row, column in places]
    expected = predictor.predict_decoded([square, *hidden]) @ np.asarray(predictor.counts.values, np.float32)
    total, windows = np.zeros((CELLS, CELLS), np.float32), np.zeros((CELLS, CELLS), np.float32)
    for (row, column), fall in zip(places, expected[0] - expected[1:], strict=True):
        total[row : row + _WINDOW, column : column + _WINDOW] += fall
        windows[row : row + _WINDOW, column : column + _WINDOW] += 1
    return total / windows


def hide(square: np.ndarray, box: tuple[slice, slice], top: float, left: float, side: float) -> np.ndarray:
    """A decoded photo with a part of it in its mean colour; `top`, `left` and `side` are shares of the photo's sides.

    Args:
        square: (px, px, 3) uint8.
        box: Rows and columns of the photo in the square; the rest is padding.
        top: From the photo's upper edge, 0 to 1.
        left: From its left edge, 0 to 1.
        side: Of the part, above 0.
    """
    hidden = square.copy()
    seen = hidden[box]
    height, width = seen.shape[:2]
    rows = slice(round(top * height), round((top + side) * height))
    columns = slice(round(left * width), round((left + side) * width))
    seen[rows, columns] = seen.mean(axis=(0, 1)).round()
    return hidden
