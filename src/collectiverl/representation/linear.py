"""A linear probe: what a linear classifier finds out, what it confuses, and which tasks most of all."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def predict_tasks(
    x: Float[np.ndarray, "B X"], task: np.ndarray, held_out_x: Float[np.ndarray, "H X"]
) -> np.ndarray:
    """The task of each held-out row, by a logistic regression on the others; one task alone is always found."""
    if len(set(task)) == 1:
        return np.repeat(task[:1], len(held_out_x))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    with warnings.catch_warnings():  # separable classes never converge, and are told apart all the same
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, task).predict(held_out_x)


def confusion(task: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> list[list[float]]:
    """Share of each task's rows (rows, in the order of `names`) that were taken for each task (columns).

    The diagonal is the accuracy by task; a task of which there is nothing has a row of zeros.
    """
    return confusion_matrix(task, predicted, labels=list(names), normalize="true").round(4).tolist()


def most_confused(
    names: Sequence[str], matrices: Mapping[str, Sequence[Sequence[float]]], most: int = 5
) -> list[dict[str, Any]]:
    """The pairs that the first of these matrices confuses most, with the share of it in every matrix."""
    first = np.array(next(iter(matrices.values())))
    np.fill_diagonal(first, 0)
    order = np.argsort(-first, axis=None, kind="stable")[:most]
    pairs = [divmod(int(i), len(names)) for i in order if first.flat[i] > 0]
    return [
        {
            "task": names[row],
            "taken_for": names[column],
            "share": {length: matrix[row][column] for length, matrix in matrices.items()},
        }
        for row, column in pairs
    ]
