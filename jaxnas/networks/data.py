"""The images of a training: three parts with their classes, as arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxnas.types import Array


class Data(NamedTuple):
    """Normalised images x (n, size, size, c) and their classes y (n,) int32, in 3 parts.

    `runs.train` takes NumPy arrays as well.
    """

    x: Array  # training images
    y: Array
    x_valid: Array
    y_valid: Array
    x_test: Array
    y_test: Array
    pad_value: Array  # (c,): the normalised value of a black pixel

    @classmethod
    def without_test(
        cls, x: Any, y: Any, x_valid: Any, y_valid: Any, pad_value: Any = None
    ) -> Data:
        """Makes the data that a search may see: images for training and validation alone.

        The first validation image stands in for the test images; the test accuracy means
        nothing.

        Args:
          x: (n, size, size, c) normalised images to train on.
          y: (n,) their classes.
          x_valid: (m, size, size, c) normalised images to validate on.
          y_valid: (m,) their classes.
          pad_value: (c,) the normalised value of a black pixel; default: 0, the mean.
        """
        if pad_value is None:
            pad_value = np.zeros(np.shape(x)[-1:], np.float32)
        return cls(x, y, x_valid, y_valid, x_valid[:1], y_valid[:1], pad_value)
