"""Images with classes, on the host: from where they lie to fixed batches.

    images = normalise(from_npz("images.npz", name="cifar10"))
    train, valid = split(images, (0.8, 0.2), seed=0)
    x, y = batch(train, 128, seed=0)

Pixels are in 0 to 255 until they are normalised, and those of picture files what a viewer
shows on white. What is random depends on a seed alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
