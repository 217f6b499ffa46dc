"""Checks for the exercises of chapter 08: task shares, learned weights, projected gradients, negative transfer."""

from __future__ import annotations

import math

import numpy as np

from xlbook.exercises import Wrong


def exercise_1(answer) -> None:
    """A function (sizes, temperature) -> share of each task, p ∝ n^(1/T)."""
    sizes = {"intent": 100, "slots": 400, "mlm": 8100}
    received = {task: float(p) for task, p in dict(answer(dict(sizes), 2)).items()}
    if set(received) != set(sizes):
        raise Wrong("tasks-missing", f"Return a share for each of {', '.join(sizes)}; received {sorted(received)}.")
    if math.isclose(sum(received.values()), 120, rel_tol=1e-6):
        raise Wrong("not-normalized", "Your numbers do not sum to 1. Divide each by their sum.")
    total = sum(sizes.values())
    if all(math.isclose(received[t], n / total, rel_tol=1e-6) for t, n in sizes.items()):
        raise Wrong("temperature-ignored", "These are the shares at temperature 1. The temperature does nothing.")
    squares = sum(n**2 for n in sizes.values())
    if all(math.isclose(received[t], n**2 / squares, rel_tol=1e-6) for t, n in sizes.items()):
        raise Wrong("power-not-root", "The large task became even larger. The exponent is 1 / T, not T.")
    expected = {task: n**0.5 / 120 for task, n in sizes.items()}
    if any(not math.isclose(received[t], p, rel_tol=1e-6) for t, p in expected.items()):
        raise Wrong("other", f"Expected about {expected}; received {received}.")
    even = answer(dict(sizes), float("inf"))
    if any(not math.isclose(p, 1 / 3, rel_tol=1e-6) for p in even.values()):
        raise Wrong("infinity", "At an infinite temperature all tasks have the same share.")


def exercise_2(answer) -> None:
    """A function (losses, log-variances) -> total, the sum of exp(-s) * loss + s / 2."""
    losses, s = [0.3, 8.0], [-0.5, 2.0]
    received = float(answer(list(losses), list(s)))
    right = sum(math.exp(-v) * loss + v / 2 for loss, v in zip(losses, s))
    known = {
        "sign-of-the-weight": sum(math.exp(v) * loss + v / 2 for loss, v in zip(losses, s)),
        "no-price": sum(math.exp(-v) * loss for loss, v in zip(losses, s)),
        "price-with-a-minus": sum(math.exp(-v) * loss - v / 2 for loss, v in zip(losses, s)),
        "weights-swapped": sum(math.exp(-v) * loss + v / 2 for loss, v in zip(losses, s[::-1])),
        "price-not-halved": sum(math.exp(-v) * loss + v for loss, v in zip(losses, s)),
        "loss-halved": sum(math.exp(-v) * loss / 2 + v / 2 for loss, v in zip(losses, s)),
    }
    hints = {
        "sign-of-the-weight": "A task with a large variance must count less. Yours counts more.",
        "no-price": "Without the second term the total falls for ever: every variance would grow without limit.",
        "price-with-a-minus": "The second term pays for uncertainty. With a minus, uncertainty is rewarded.",
        "weights-swapped": "The first log-variance belongs to the first loss. Yours are the wrong way round.",
        "price-not-halved": "The price is ln of the standard deviation. How does that follow from the log-variance?",
        "loss-halved": "A half before the loss belongs to squared errors. For a cross-entropy there is none.",
    }
    for name, value in known.items():
        if math.isclose(received, value, rel_tol=1e-6):
            raise Wrong(name, hints[name])
    if not math.isclose(received, right, rel_tol=1e-6):
        raise Wrong(
            "other", f"For losses {losses} and log-variances {s} the total is {right:.4f}; received {received}."
        )


def exercise_3(answer) -> None:
    """A function (a, b) -> gradient a without its part that works against b."""
    a, b = np.array([2.0, 0.0]), np.array([-1.0, 1.0])
    received = np.asarray(answer(a.copy(), b.copy()), float)
    if received.shape != a.shape:
        raise Wrong("wrong-shape", f"Return a vector of the shape of a, {a.shape}; received {received.shape}.")
    if np.allclose(received, [3.0, -1.0]):
        raise Wrong("sign-error", "Your result works against b twice as much as before. Take the part away.")
    if np.allclose(received, a):
        raise Wrong("nothing-projected", "These two work against each other (their dot product is negative).")
    if np.allclose(received, a - (a @ b) * b):
        raise Wrong("not-divided-by-the-square", "The part is (a · b) / (b · b) times b; b need not have length 1.")
    if np.allclose(received, a - (a @ b) / np.linalg.norm(b) * b):
        raise Wrong("not-divided-by-the-square", "Divide by the squared length of b, not by its length.")
    if np.allclose(abs(received), [1.0, 1.0]) and not np.allclose(received, [1.0, 1.0]):
        raise Wrong("kept-the-wrong-part", "This is the part of a along b. Return what remains without it.")
    if not np.allclose(received, [1.0, 1.0]):
        raise Wrong("other", f"For a = {a} and b = {b} the result is [1. 1.]; received {received}.")
    friends = np.asarray(answer(np.array([2.0, 0.0]), np.array([1.0, 1.0])), float)
    if friends.shape != a.shape:
        raise Wrong("nothing-returned", "Where the dot product is positive, return a as it is.")
    if not np.allclose(friends, [2.0, 0.0]):
        raise Wrong("always-projects", "Where the dot product is positive, nothing may be taken away.")


def exercise_4(answer) -> None:
    """A function (rows) -> languages with negative transfer at equal compute.

    Each row is a dictionary with ``language``, ``alone`` and ``joint`` (accuracy at equal updates), ``alone longer``
    (accuracy of the single-task model with the compute of the joint one), ``low`` and ``high``: the interval of joint
    minus ``alone longer``.
    """
    rows = [
        {"language": "de", "alone": 0.70, "alone longer": 0.72, "joint": 0.74, "low": -0.01, "high": 0.05},
        {"language": "fi", "alone": 0.50, "alone longer": 0.58, "joint": 0.52, "low": -0.10, "high": -0.02},
        {"language": "zh", "alone": 0.66, "alone longer": 0.65, "joint": 0.63, "low": -0.06, "high": 0.02},
        {"language": "hi", "alone": 0.42, "alone longer": 0.41, "joint": 0.36, "low": -0.09, "high": -0.01},
        {"language": "ar", "alone": 0.60, "alone longer": 0.57, "joint": 0.58, "low": -0.03, "high": 0.05},
    ]
    received = sorted(answer([dict(r) for r in rows]))
    if received == ["fi", "hi", "zh"]:
        raise Wrong("noise-counted", "zh is lower, but its interval contains zero. That may be noise.")
    if received in (["ar", "hi", "zh"], ["hi", "zh"], ["hi"]):
        raise Wrong("unequal-compute", "Compare with the single-task model that had the same compute: 'alone longer'.")
    if len(received) == len(rows):
        raise Wrong(
            "everything",
            "You named every language. Negative transfer needs an interval that lies below zero, all of it.",
        )
    if received in (["de"], ["ar", "de"]):
        raise Wrong("gains-not-losses", "You named languages in which joint training is better.")
    if received != ["fi", "hi"]:
        raise Wrong("other", f"The answer is ['fi', 'hi']; received {received}.")
