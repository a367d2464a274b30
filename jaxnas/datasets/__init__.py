"""Images with classes, on the host: from where they lie to fixed batches.

    images = normalise(from_npz("images.npz", name="cifar10"))
    train, valid = split(images, (0.8, 0.2), seed=0)
    x, y = batch(train, 128, seed=0)

Pixels are in 0 to 255 until they are normalised, and those of picture files what a viewer
shows on white. What is random depends on a seed alone.
"""

from jaxnas.datasets.images import (
    NORMALISATION,
    Images,
    batch,
    normalisation_constants,
    normalise,
    require_varied,
    resize,
    split,
    validate_images,
)
from jaxnas.datasets.sources import (
    digits,
    fashion_mnist,
    from_cifar,
    from_folder,
    from_idx,
    from_npz,
)

__all__ = [
    "NORMALISATION",
    "Images",
    "batch",
    "validate_images",
    "normalisation_constants",
    "digits",
    "fashion_mnist",
    "from_cifar",
    "from_folder",
    "from_idx",
    "from_npz",
    "normalise",
    "resize",
    "split",
    "require_varied",
]
