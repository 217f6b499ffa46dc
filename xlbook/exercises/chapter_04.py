"""Checks for the exercises of chapter 04: fake English, retrieval in both directions, CSLS, CKA."""

from __future__ import annotations

import numpy as np

from xlbook.exercises import Wrong


def exercise_1(answer) -> None:
    """A function (ids, pieces, special) -> fake English: pieces move up by V, special tokens stay."""
    ids, pieces, special = [1, 4, 9, 5, 2], 6, 4
    received = answer(list(ids), pieces, special)
    if received is None:
        raise Wrong("nothing-returned", "Your function returns nothing. Build a new list and return it.")
    received = [int(i) for i in received]
    if received == [7, 10, 15, 11, 8]:
        raise Wrong(
            "special-tokens-shifted", "The first and the last token moved, too. That is the row “own special tokens”."
        )
    if received == [1, 8, 13, 9, 2]:
        raise Wrong(
            "shifted-by-the-special-tokens", "You moved by the number of special tokens. Every piece moves by V."
        )
    if received == [1, 4, 9, 11, 2] or received == [1, 4, 15, 11, 2]:
        raise Wrong("first-piece-forgotten", "The lowest piece stayed in English. Ids from `special` on are pieces.")
    if len(received) == 5 and max(received) < special + pieces:
        raise Wrong(
            "still-english", "All ids are still among the English ones. The new ids begin above them: add, do not wrap."
        )
    if received != [1, 10, 15, 11, 2]:
        raise Wrong("other", f"Expected [1, 10, 15, 11, 2]; received {received}.")


def exercise_2(answer) -> None:
    """A function (similarity) -> (a finds b, b finds a), for rows a and columns b."""
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.7, 0.1], [0.3, 0.6, 0.5]])
    received = answer(scores.copy())
    if not isinstance(received, tuple | list) or len(received) != 2:
        raise Wrong("one-direction", "Return two shares: rows that find their column, and columns that find their row.")
    forward, backward = (float(x) for x in received)
    if np.isclose(forward, 1) and np.isclose(backward, 1 / 3):
        raise Wrong("directions-swapped", "The two are swapped. Row i asks; it looks along its row, over the columns.")
    if np.isclose(forward, backward):
        raise Wrong(
            "same-direction-twice", "Both directions came out the same. One looks along rows, the other along columns."
        )
    if forward > 1 or backward > 1:
        raise Wrong("counts-not-shares", "Return shares, not counts: divide by the number of texts.")
    if not np.allclose((forward, backward), (1 / 3, 1)):
        raise Wrong("other", f"For this matrix the answer is (1/3, 1); received {(forward, backward)}.")


def exercise_3(answer) -> None:
    """A function (similarity, k) -> CSLS."""
    plain = np.array([[0.9, 0.8, 0.1], [0.7, 0.2, 0.3]])
    rows, columns = np.array([[0.85], [0.5]]), np.array([[0.8, 0.5, 0.2]])
    received = np.asarray(answer(plain.copy(), 2), float)
    if received.shape != plain.shape:
        raise Wrong("other-shape", f"The result has shape {received.shape}; it needs one number a pair, {plain.shape}.")
    everything = 2 * plain - plain.mean(axis=1, keepdims=True) - plain.mean(axis=0, keepdims=True)
    mistakes = {
        "plus-instead-of-minus": (
            2 * plain + rows + columns,
            "You reward hubs. What is close to everything must lose.",
        ),
        "cosine-not-doubled": (plain - rows - columns, "Two means are taken off, so the cosine counts twice."),
        "queries-only": (2 * plain - rows, "Only the rows are corrected. That changes no winner: hubs are columns."),
        "items-only": (2 * plain - columns, "Only the columns are corrected. The formula takes both means off."),
        "all-neighbours": (everything, "You averaged over everything. Only the k nearest count."),
    }
    for name, (wrong, hint) in mistakes.items():
        if np.allclose(received, wrong):
            raise Wrong(name, hint)
    if not np.allclose(received, 2 * plain - rows - columns):
        raise Wrong("other", "For the matrix of the text and k = 2, the first number is 2 · 0.9 - 0.85 - 0.8.")


def exercise_4(answer) -> None:
    """A function (x, y) -> linear CKA of two sets of vectors."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(30, 4)) + 2
    y = np.tanh(x @ rng.normal(size=(4, 3))) + 0.2 * rng.normal(size=(30, 3)) - 1
    received = float(answer(x.copy(), y.copy()))

    def value(a, b, *, square: bool = True, root: bool = False) -> float:
        top, scale = np.linalg.norm(b.T @ a), np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
        return float((top**2 if square else top) / (np.sqrt(scale) if root else scale))

    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    mistakes = {
        "not-centred": (
            value(x, y),
            "Take the mean of each space off first; else the common offset counts as likeness.",
        ),
        "centred-by-row": (
            value(x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)),
            "You took the mean of each text. Take the mean of each dimension, over the texts: axis 0.",
        ),
        "only-one-side-centred": (value(a, y * 1.0), "Both spaces must be centred where their own norm is taken, too."),
        "not-squared": (value(a, b, square=False), "The norm in the numerator is squared."),
        "root-of-the-scale": (value(a, b, root=True), "The two norms are multiplied as they are; there is no root."),
    }
    for name, (wrong, hint) in mistakes.items():
        if np.isclose(received, wrong):
            raise Wrong(name, hint)
    if not np.isclose(received, value(a, b)):
        raise Wrong("other", f"Received {received:.4f}. Check that CKA of a space with itself is 1.")
    if not np.isclose(float(answer(x, 3 * y + 5)), value(a, b)):
        raise Wrong("other", "Moving and scaling one space must change nothing.")
