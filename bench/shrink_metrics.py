"""Metrics of a classifier's answers, and the paired 95 % interval of how two of them differ."""
import numpy as np

RESAMPLES = 1000


def probabilities(y):
    """Rows that are probabilities already, else their softmax; of a single column the sigmoid."""
    y = y.reshape(len(y), -1).astype(np.float64)
    if y.shape[1] == 1:
        p = y if (y >= 0).all() and (y <= 1).all() else 1 / (1 + np.exp(-y))
        return np.concatenate([1 - p, p], 1)
    if (y >= 0).all() and np.allclose(y.sum(1), 1, atol=1e-3):
        return y / y.sum(1, keepdims=True)
    e = np.exp(y - y.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def accuracy(p, labels):
    return (p.argmax(1) == labels).mean()


def log_loss(p, labels):
    return -np.log(np.maximum(p[np.arange(len(p)), labels], 1e-15)).mean()


def auc(p, labels):
    """The share of pairs of a positive and a negative that are in order; ties count half."""
    values, place = np.unique(p[:, 1], return_inverse=True)
    negatives = np.bincount(place, labels == 0, len(values))
    below = np.cumsum(negatives) - negatives
    positives = np.bincount(place, labels == 1, len(values))
    return (positives * (below + negatives / 2)).sum() / (positives.sum() * negatives.sum())


METRICS = {"accuracy": accuracy, "log-loss": log_loss, "auc": auc}
LESS_IS_BETTER = ("log-loss",)


def agreement(a, b):
    """The share of samples to which both give the same class."""
    return (a.argmax(1) == b.argmax(1)).mean()


def apart(a, b):
    """How far the probabilities are apart, on average."""
    return np.abs(a - b).mean()


def difference(metric, a, b, labels, seed=1):
    """(metric of a minus metric of b, low, high): the percentiles of resampled test sets."""
    function, rng = METRICS[metric], np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(labels), len(labels))
        drawn.append(function(a[rows], labels[rows]) - function(b[rows], labels[rows]))
    return function(a, labels) - function(b, labels), *np.quantile(drawn, [0.025, 0.975])


def relative_loss(metric, reference, variant):
    loss = variant - reference if metric in LESS_IS_BETTER else reference - variant
    return loss / reference
