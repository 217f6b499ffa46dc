"""Chapter 09: each solution passes, each stub is open, each catalogued mistake is told what it is."""

import numpy as np
import pytest
from exercise_cases import caught, solved_and_open

STEM, EXERCISES = "09_distillation", ("09.1", "09.2", "09.3", "09.4")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_passes_and_the_stub_does_not(exercise):
    solved_and_open(STEM, exercise, np=np)


def mse(a, b):
    return ((a - b) ** 2).mean()


def softmax(z):
    e = np.exp(z)
    return e / e.sum(axis=-1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum(axis=-1).mean()


def pool(states, mask, before, *, first=1, last=1, mean=True):
    kept = np.zeros(mask.shape, bool)
    for row, length in enumerate(mask.sum(axis=1)):
        kept[row, first + before : length - last] = True
    total = (states * kept[..., None]).sum(axis=1)
    return total / kept.sum(axis=1, keepdims=True) if mean else total


def scales(weights, top=127.0):
    return np.abs(weights).max(axis=1, keepdims=True) / top


def divided(weights, scale):
    return np.round(weights / scale).astype(np.int64).astype(np.int8), scale


WRONG = {
    "09.1": {
        "no-target-sentence": lambda t, e, f: mse(t, e),
        "no-english-term": lambda t, e, f: mse(t, f),
        "student-compared-with-itself": lambda t, e, f: mse(t, e) + mse(e, f),
        "average-of-the-terms": lambda t, e, f: (mse(t, e) + mse(t, f)) / 2,
        "sum-instead-of-mean": lambda t, e, f: ((t - e) ** 2).sum() + ((t - f) ** 2).sum(),
        "not-one-number": lambda t, e, f: (t - e) ** 2 + (t - f) ** 2,
    },
    "09.2": {
        "no-t-squared": lambda s, z, t: kl(softmax(z / t), softmax(s / t)),
        "direction-swapped": lambda s, z, t: t**2 * kl(softmax(s / t), softmax(z / t)),
        "one-side-softened": lambda s, z, t: t**2 * kl(softmax(z / t), softmax(s)),
        "sharpened": lambda s, z, t: t**2 * kl(softmax(z * t), softmax(s * t)),
        "labels-instead-of-answers": lambda s, z, t: -np.log(softmax(s))[np.arange(len(s)), z.argmax(axis=-1)].mean(),
    },
    "09.3": {
        "special-tokens-pooled": lambda x, m, b: pool(x, m, 0, first=0, last=0),
        "padding-pooled": lambda x, m, b: x.mean(axis=1),
        "prefix-pooled": lambda x, m, b: pool(x, m, 0),
        "end-token-pooled": lambda x, m, b: pool(x, m, b, last=0),
        "sum-instead-of-mean": lambda x, m, b: pool(x, m, b, mean=False),
        "wrong-shape": lambda x, m, b: x.mean(),
        "end-token-pooled (last place)": lambda x, m, b: x[:, 1 + b : -1].mean(axis=1),
    },
    "09.4": {
        "one-scale-for-all": lambda w: (np.round(w / (np.abs(w).max() / 127)).astype(np.int8), np.abs(w).max() / 127),
        "cut-off-instead-of-rounded": lambda w: ((w / scales(w) * (1 + 1e-9)).astype(np.int8), scales(w)),
        "overflow": lambda w: (np.round(w / scales(w, 128.0)).astype(np.int64).astype(np.int8), scales(w, 128.0)),
        "still-floating": lambda w: (np.round(w / scales(w)), scales(w)),
        "unsigned": lambda w: (np.round(np.abs(w) / scales(w)).astype(np.uint8), scales(w)),
        "sign-not-ignored": lambda w: divided(w, w.max(axis=1, keepdims=True) / 127),
        "not-symmetric": lambda w: divided(w, np.ptp(w, axis=1, keepdims=True) / 255),
        "not-divided": lambda w: (w.astype(np.int8), scales(w)),
        "wrong-shape": lambda w: (divided(w, scales(w))[0], scales(w)[:, 0]),
        "not-a-pair": lambda w: divided(w, scales(w))[0],
    },
}


@pytest.mark.parametrize(("exercise", "name"), [(e, n) for e, cases in WRONG.items() for n in cases])
def test_each_mistake_is_named(exercise, name):
    assert caught(exercise, WRONG[exercise][name]) == name.partition(" (")[0]
