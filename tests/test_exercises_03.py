"""Chapter 03: each solution passes, each stub is open, each catalogued mistake is told what it is."""

import math

import numpy as np
import pytest
from exercise_cases import caught, solved_and_open

STEM, EXERCISES = "03_pretraining", ("03.1", "03.2", "03.3", "03.4")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_passes_and_the_stub_does_not(exercise):
    solved_and_open(STEM, exercise, np=np)


def positions(ids, end, *, cut=1, first=0):
    """Reset ``cut`` places after the first end of a text."""
    at = ids.index(end) + cut
    return [i + first if i < at else i - at + first for i in range(len(ids))]


def at_every_end(ids, end):
    found = []
    for token in ids:
        found.append(0 if token == end or not found else found[-1] + 1)
    return found


def drawn(sizes, alpha, draws, *, power=None, normalize=True, divide=True):
    weights = {c: (n**alpha if power is None else power(n)) for c, n in sizes.items()}
    total = sum(weights.values()) if normalize else 1
    return {c: draws * w / total / (sizes[c] if divide else 1) for c, w in weights.items()}


WRONG = {
    "03.1": {
        "every-token-labelled": lambda ids, chosen: ids,
        "places-swapped": lambda ids, chosen: [-100 if c else i for i, c in zip(ids, chosen)],
        "zero-instead-of-ignored": lambda ids, chosen: [i if c else 0 for i, c in zip(ids, chosen)],
        "mask-as-label": lambda ids, chosen: [4 if c else -100 for i, c in zip(ids, chosen)],
        "only-the-chosen": lambda ids, chosen: [i for i, c in zip(ids, chosen) if c],
    },
    "03.2": {
        "no-reset": lambda ids, end: list(range(len(ids))),
        "reset-too-late": lambda ids, end: positions(ids, end, cut=2),
        "reset-too-early": lambda ids, end: positions(ids, end, cut=0),
        "reset-at-every-end": at_every_end,
        "counts-from-one": lambda ids, end: positions(ids, end, first=1),
        "fixed-place": lambda ids, end: [*range(len(ids) // 2), *range(len(ids) - len(ids) // 2)],
    },
    "03.3": {
        "shares-only": lambda sizes, alpha, draws: drawn(sizes, alpha, 1, divide=False),
        "draws-not-divided": lambda sizes, alpha, draws: drawn(sizes, alpha, draws, divide=False),
        "alpha-ignored": lambda sizes, alpha, draws: drawn(sizes, 1, draws),
        "not-normalized": lambda sizes, alpha, draws: drawn(sizes, alpha, draws, normalize=False),
        "negative-power": lambda sizes, alpha, draws: drawn(sizes, -alpha, draws),
        "alpha-misplaced": lambda sizes, alpha, draws: drawn(sizes, 1 - alpha, draws),
    },
    "03.4": {
        "sign": lambda logs, text: sum(logs) / math.log(2) / len(text.encode()),
        "nats": lambda logs, text: -sum(logs) / len(text.encode()),
        "wrong-way": lambda logs, text: -sum(logs) * math.log(2) / len(text.encode()),
        "characters": lambda logs, text: -sum(logs) / math.log(2) / len(text),
        "per-token": lambda logs, text: -sum(logs) / math.log(2) / len(logs),
        "mean-over-bytes": lambda logs, text: -sum(logs) / len(logs) / math.log(2) / len(text.encode()),
    },
}


@pytest.mark.parametrize(("exercise", "mistake"), [(e, m) for e, mistakes in WRONG.items() for m in mistakes])
def test_each_mistake_is_told_by_name(exercise, mistake):
    assert caught(exercise, WRONG[exercise][mistake]) == mistake


def test_the_root_alone_is_not_enough():
    """The first numbers are asked with alpha one half; an answer that always takes the root must not pass."""
    assert caught("03.3", lambda sizes, alpha, draws: drawn(sizes, 0.5, draws)) == "alpha-misplaced"
