"""Labelled images on the host: from files and packages to fixed batches.

    images = normalise(from_npz("images.npz", name="cifar10"))
    train, valid = split(images, (0.8, 0.2), seed=0)
    x, y = batch(train, 128, seed=0)

`sources` reads images (PNG, JPEG and WebP by `pictures`), `images` validates, normalises,
splits and resizes them, `opened` finds the source for a name or path that a user gives.
`features` describes images by vectors of a stated kind (`lite0`, `hog`).
Pixels are in 0 to 255 until they are normalised; transparent pictures are read over white.
Everything random depends on a seed alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
