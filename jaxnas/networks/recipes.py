"""Training recipes: how long a network is trained, by which schedule and augmentation."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum under a cosine schedule, with augmentation.

    Attributes:
      epochs: passes over the training images. Images that do not fill a last batch are
        left out of an epoch, other ones each time.
      batch: images in a step; all of them if there are fewer.
      lr: highest learning rate; it falls to 0 along half a cosine.
      warmup: epochs at the start in which it rises linearly from 0; may be a fraction,
        and needs `per_step_schedule`.
      per_step_schedule: whether the rate changes with every step, not every epoch.
      momentum: Nesterov momentum, in [0, 1).
      weight_decay: L2 decay of all parameters, norms and bias included.
      label_smoothing: share of every label that is spread over all classes, in [0, 1)
        (Szegedy et al., 2016).
      horizontal_flip: whether half of the images are mirrored.
      crop: largest shift in pixels of a random crop, each way; black pixels fill it.
      cutout: side in pixels of a square that is set to the mean (DeVries and Taylor,
        2017); 0: none.
      cutmix: share of the images of which a rectangle is that of another image, with
        labels in proportion to the pixels (Yun et al., 2019), in [0, 1).

    Raises: `ValueError` if a value is out of its range.
    """

    epochs: int = 200
    batch: int = 256
    lr: float = 0.1
    warmup: float = 0.0
    per_step_schedule: bool = False
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    horizontal_flip: bool = False
    crop: int = 0
    cutout: int = 0
    cutmix: float = 0.0

    def __post_init__(self):
        for name, least in (("epochs", 1), ("batch", 2), ("crop", 0), ("cutout", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer from {least}: {value!r}")
        for name in ("lr", "warmup", "weight_decay"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise ValueError(f"{name} must be finite and not negative: {value!r}")
        for name in ("momentum", "label_smoothing", "cutmix"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1): {getattr(self, name)!r}")
        if self.warmup and not self.per_step_schedule:
            raise ValueError("a warm-up needs per_step_schedule=True")


RECIPES = {
    # Dong and Yang (2020), section 2.4, and their program.
    "nb201": Recipe(horizontal_flip=True, crop=4),
    # For few, small images: seconds on a CPU.
    "short": Recipe(epochs=12, batch=64, lr=0.2, warmup=1.0, per_step_schedule=True),
}


def learning_rates(recipe: Recipe, steps: int, epoch: int) -> np.ndarray:
    """Computes the learning rates of the steps of one epoch.

    Args:
      recipe: the schedule.
      steps: of an epoch.
      epoch: counted from 0.

    Returns:
      (steps,) float32.
    """
    at = np.full(steps, float(epoch))
    if recipe.per_step_schedule:
        at = epoch + (np.arange(steps) + 0.5) / steps
    progress = (at - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1e-9)
    falling = 0.5 * (1 + np.cos(np.pi * np.clip(progress, 0, 1)))
    rising = at / recipe.warmup if recipe.warmup else np.ones(steps)
    return (recipe.lr * np.minimum(falling, rising)).astype(np.float32)


def epoch_steps(recipe: Recipe, num_images: int) -> tuple[int, int]:
    """Returns the number of steps of an epoch, and the images in each of them."""
    batch = min(recipe.batch, num_images)
    return num_images // batch, batch
