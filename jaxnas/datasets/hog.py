"""Histograms of oriented gradients, and of colours, as features without any weights.

Gradients are described as by Dalal and Triggs (2005), with the constants of scikit-image's
`hog`: 9 unsigned directions, cells of 8 x 8 pixels, blocks of 2 x 2 cells, "L2-Hys". Mean
and standard deviation of each colour in every cell are appended.
"""

from __future__ import annotations

import numpy as np

CELL, BLOCK, DIRECTIONS = 8, 2, 9
_CLIP = 0.2  # of a normalised block (Lowe, 2004)
_EPSILON = 1e-5


def width(side: int) -> int:
    """Counts the features of images of side x side pixels."""
    cells = side // CELL
    blocks = cells - BLOCK + 1
    return blocks**2 * BLOCK**2 * DIRECTIONS + cells**2 * 6


def hog_colour(pixels: np.ndarray) -> np.ndarray:
    """Computes histograms of gradients, and moments of colours, of square images.

    Args:
      pixels: (b, side, side, 3) from 0 to 255; side a multiple of 8, at least 16.

    Returns:
      (b, `width(side)`) float32; the same for one image and many.
    """
    x = pixels.astype(np.float32) / np.float32(255)
    cells = _in_cells(x)  # (b, rows, columns, 64, 3)
    colours = np.concatenate([cells.mean(3), cells.std(3)], -1)
    blocks = _normalised_blocks(_histograms(x))
    parts = [part.reshape(len(x), -1) for part in (blocks, colours)]
    return np.concatenate(parts, -1).astype(np.float32)


def _in_cells(x: np.ndarray) -> np.ndarray:
    """Cuts images (b, side, side, c) into cells (b, side / 8, side / 8, 64, c)."""
    images, side, _, channels = x.shape
    num = side // CELL
    cut = x.reshape(images, num, CELL, num, CELL, channels).swapaxes(2, 3)
    return cut.reshape(images, num, num, CELL * CELL, channels)


def _histograms(x: np.ndarray) -> np.ndarray:
    """Sums gradient magnitudes by direction in each cell, (b, rows, columns, 9).

    A pixel's gradient is that of the colour in which it is largest; it is 0 across the
    edges of the image.

    Args:
      x: (b, side, side, 3).
    """
    by_row, by_column = np.zeros_like(x), np.zeros_like(x)
    by_row[:, 1:-1] = x[:, 2:] - x[:, :-2]
    by_column[:, :, 1:-1] = x[:, :, 2:] - x[:, :, :-2]
    magnitude = np.hypot(by_row, by_column)
    colour = magnitude.argmax(-1)[..., None]
    by_row, by_column, magnitude = (
        np.take_along_axis(values, colour, -1)
        for values in (by_row, by_column, magnitude)
    )
    angle = np.arctan2(by_row, by_column) % np.pi
    # An angle of almost pi may round to pi, which is the direction 0.
    direction = (angle * (DIRECTIONS / np.pi)).astype(int) % DIRECTIONS
    one_hot = direction == np.arange(DIRECTIONS)
    return _in_cells(magnitude * one_hot).mean(3)


def _normalised_blocks(cells: np.ndarray) -> np.ndarray:
    """Normalises each block of 2 x 2 cells to length 1, clips it and normalises it anew.

    Args:
      cells: (b, rows, columns, 9).

    Returns:
      (b, rows - 1, columns - 1, 2, 2, 9).
    """
    windows = np.lib.stride_tricks.sliding_window_view(cells, (BLOCK, BLOCK), (1, 2))
    blocks = np.moveaxis(windows, 3, -1)
    blocks = np.minimum(_unit_length(blocks), _CLIP)
    return _unit_length(blocks)


def _unit_length(blocks: np.ndarray) -> np.ndarray:
    squares = np.square(blocks).sum((-3, -2, -1), keepdims=True)
    return blocks / np.sqrt(squares + _EPSILON**2)
