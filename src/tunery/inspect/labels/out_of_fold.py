"""Out-of-fold probabilities: what classifiers that never saw a row's label think of that row."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunery.text.features import Vectors

Probabilities = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]

FOLDS = 5
_LANDMARKS = 1500
_RIDGE = 0.5
_SHARPNESS = (3.0, 5.0, 8.0, 12.0, 16.0, 20.0, 30.0)
_FLOOR = 1e-9


def folds(classes: Classes) -> Classes:
    """Return a fold for every row, drawn so that each class is spread evenly over the folds.

    Args:
        classes: Class of each row, shape ``(n,)``.
    """
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(len(classes))
    order = shuffled[np.argsort(classes[shuffled], kind="stable")]
    place = np.empty(len(classes), dtype=np.int64)
    place[order] = np.arange(len(classes)) % FOLDS
    return place


def linear_probabilities(vectors: Vectors, classes: Classes, *, inverse_ridge: float) -> Probabilities:
    """Return five-fold out-of-fold probabilities of a multinomial logistic regression.

    Args:
        vectors: Shape ``(n, dimensions)``.
        classes: From 0 to the number of classes less one, each at least twice.
        inverse_ridge: scikit-learn's ``C``.

    Returns:
        Shape ``(n, classes)``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    model, fold = LogisticRegression(C=inverse_ridge, max_iter=200), PredefinedSplit(folds(classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is good enough
        found = cross_val_predict(model, vectors, classes, cv=fold, method="predict_proba")
    probabilities: Probabilities = found.astype(np.float32)
    return probabilities


def kernel_probabilities(vectors: Vectors, classes: Classes, *, width: float = 1.0) -> Probabilities:
    """Return leave-one-out probabilities of a kernel ridge classifier.

    It sees what a linear model cannot: the label that prevails in a text's neighbourhood. Leaving one row out
    has a closed form, so the model is fitted once. Its values become probabilities by a softmax whose
    sharpness fits the given labels best.

    Args:
        vectors: Rows of length one, shape ``(n, dimensions)``.
        classes: As for :func:`linear_probabilities`.
        width: Factor in ``exp(-width * squared distance)``.

    Returns:
        Shape ``(n, classes)``.

    Source:
        Cook and Weisberg (1982), Residuals and Influence in Regression, section 2.2, for leaving one out;
        Williams and Seeger (2001), Using the Nyström Method to Speed Up Kernel Machines, eq. 8.
    """
    features = _nystrom(vectors, width)
    targets = np.eye(int(classes.max()) + 1)[classes]
    return _sharpened(leave_one_out(features, targets, _RIDGE), classes)


def leave_one_out(
    features: npt.NDArray[np.float64], targets: npt.NDArray[np.float64], ridge: float
) -> npt.NDArray[np.float64]:
    """Return for each row what a ridge regression without that row predicts for it.

    Args:
        features: Shape ``(n, dimensions)``.
        targets: Shape ``(n, outputs)``.
        ridge: Penalty on squared weights; above 0.

    Returns:
        Shape ``(n, outputs)``.
    """
    inverse = np.linalg.inv(features.T @ features + ridge * np.eye(features.shape[1]))
    hat = features @ inverse
    own = np.einsum("nd,nd->n", hat, features)[:, None]  # how much a row decides its own prediction
    predicted: npt.NDArray[np.float64] = (hat @ (features.T @ targets) - own * targets) / (1 - own)
    return predicted


def pooled(views: Sequence[Probabilities], sharpness: float) -> Probabilities:
    """Return probabilities halfway between the geometric and arithmetic means of several, made sharper.

    The geometric mean believes in a class when no classifier is against it, the arithmetic one when any is
    for it. Each alone finds fewer errors of one kind: the geometric mean of labels moved anywhere, the
    arithmetic mean of labels moved to a class nearby.

    Args:
        views: One array of shape ``(n, classes)`` for each classifier.
        sharpness: Power; above 1 trusts the mean more than each classifier, since their errors differ.
    """
    geometric = sum(np.log(np.maximum(p, _FLOOR)) for p in views) / len(views)
    arithmetic = np.log(np.maximum(sum(views) / len(views), _FLOOR))
    return _softmax((geometric + arithmetic) * (sharpness / 2))


def _nystrom(vectors: Vectors, width: float) -> npt.NDArray[np.float64]:
    """Return features whose scalar products are nearly the kernel's values, and a constant."""
    count = len(vectors)
    chosen = np.random.default_rng(0).choice(count, min(count, _LANDMARKS), replace=False)
    landmarks = vectors[chosen]

    def kernel(rows: Vectors) -> npt.NDArray[np.float64]:
        squared = (rows**2).sum(1)[:, None] + (landmarks**2).sum(1) - 2 * rows @ landmarks.T
        values: npt.NDArray[np.float64] = np.exp(-width * np.maximum(squared, 0), dtype=np.float64)
        return values

    values, directions = np.linalg.eigh(kernel(landmarks))
    features = kernel(vectors) @ (directions / np.sqrt(np.maximum(values, 1e-6)))
    return np.hstack([features, np.ones((count, 1))])


def _sharpened(values: npt.NDArray[np.float64], classes: Classes) -> Probabilities:
    def fit(sharpness: float) -> float:
        given = _softmax(values * sharpness)[np.arange(len(classes)), classes]
        return float(np.log(given + _FLOOR).mean())

    return _softmax(values * max(_SHARPNESS, key=fit))


def _softmax(logits: npt.NDArray[np.floating]) -> Probabilities:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
