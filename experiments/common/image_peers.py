"""Learners of scikit-learn that a search on images is compared with."""

from __future__ import annotations

import numpy as np

from jaxnas.studies.images.tasks import ImageTask

PEERS = ("svc", "mlp")


def peer(method: str, task: ImageTask, seed: int) -> float:
    """Trains a learner of scikit-learn, and tests it.

    Args:
      method: `svc` or `mlp`.
      task: the images; pixels are scaled to at most 1.
      seed: of the weights of `mlp`.

    Returns: its test accuracy in percent.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    def pixels(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1) / max(float(np.abs(task.train.x).max()), 1e-12)

    both = task.train_and_valid()
    x, y = pixels(both.x), both.y
    if method == "mlp":
        model = MLPClassifier((256, 256), max_iter=500, random_state=seed)
    else:
        num = len(task.train.x)
        models = [SVC(C=c).fit(x[:num], y[:num]) for c in (1.0, 10.0, 100.0)]
        valid = [m.score(x[num:], y[num:]) for m in models]
        model = SVC(C=models[int(np.argmax(valid))].C)
    return 100 * float(model.fit(x, y).score(pixels(task.test.x), task.test.y))
