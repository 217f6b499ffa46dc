"""Chapter 08: each solution passes, each stub is open, each catalogued mistake is told what it is."""

import math

import numpy as np
import pytest
from exercise_cases import caught, solved_and_open

STEM, EXERCISES = "08_multitask", ("08.1", "08.2", "08.3", "08.4")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_passes_and_the_stub_does_not(exercise):
    solved_and_open(STEM, exercise, math=math, np=np)


def shares(sizes, power, *, divide=True):
    raised = {task: n**power for task, n in sizes.items()}
    return {task: n / (sum(raised.values()) if divide else 1) for task, n in raised.items()}


def total(losses, s, *, sign=-1, price=0.5, factor=1):
    return sum(factor * math.exp(sign * v) * loss + price * v for loss, v in zip(losses, s))


def projected(a, b, *, sign=-1, always=False, power=2):
    dot = a @ b
    return a + sign * dot / np.linalg.norm(b) ** power * b if dot < 0 or always else a


def worse(rows, *, than="alone longer"):
    return [r["language"] for r in rows if r["joint"] < r[than]]


WRONG = {
    "08.1": {
        "temperature-ignored": lambda sizes, t: shares(sizes, 1),
        "power-not-root": lambda sizes, t: shares(sizes, t),
        "not-normalized": lambda sizes, t: shares(sizes, 1 / t, divide=False),
        "tasks-missing": lambda sizes, t: {"mlm": 1.0},
        "infinity": lambda sizes, t: shares(sizes, 1 / min(t, 2)),
    },
    "08.2": {
        "sign-of-the-weight": lambda losses, s: total(losses, s, sign=1),
        "no-price": lambda losses, s: total(losses, s, price=0),
        "price-with-a-minus": lambda losses, s: total(losses, s, price=-0.5),
        "weights-swapped": lambda losses, s: total(losses, s[::-1]),
        "price-not-halved": lambda losses, s: total(losses, s, price=1),
        "loss-halved": lambda losses, s: total(losses, s, factor=0.5),
    },
    "08.3": {
        "sign-error": lambda a, b: projected(a, b, sign=1),
        "always-projects": lambda a, b: projected(a, b, always=True),
        "not-divided-by-the-square": lambda a, b: projected(a, b, power=1),
        "nothing-projected": lambda a, b: a,
        "kept-the-wrong-part": lambda a, b: abs(a @ b) / (b @ b) * b,
        "wrong-shape": lambda a, b: a @ b,
        "nothing-returned": lambda a, b: projected(a, b) if a @ b < 0 else None,
    },
    "08.4": {
        "noise-counted": worse,
        "unequal-compute": lambda rows: worse(rows, than="alone"),
        "everything": lambda rows: [r["language"] for r in rows if r["low"] < 0],
        "gains-not-losses": lambda rows: [r["language"] for r in rows if r["joint"] > r["alone longer"]],
    },
}


@pytest.mark.parametrize(("exercise", "name"), [(e, n) for e, cases in WRONG.items() for n in cases])
def test_each_mistake_is_named(exercise, name):
    assert caught(exercise, WRONG[exercise][name]) == name
