"""Chapter 06: each solution passes, each stub is open, each catalogued mistake is told what it is."""

import pytest
from exercise_cases import caught, solved_and_open

STEM, EXERCISES = "06_finetuning", ("06.1", "06.2", "06.3", "06.4")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_passes_and_the_stub_does_not(exercise):
    solved_and_open(STEM, exercise)


def split(records, held, *, texts_too=False, by=1):
    train = [r[0] for r in records if r[by] not in held]
    test = [r[0] for r in records if r[by] in held]
    return train, [t for t in test if not (texts_too and t in train)]


def pieces(word_ids, tags, *, special=-100, repeat=False, last=False):
    order = list(enumerate(word_ids))
    labels, previous = [special] * len(word_ids), None
    for i, word in reversed(order) if last else order:
        if word is not None and (repeat or word != previous):
            labels[i] = tags[word]
        elif word is not None:
            labels[i] = -100
        previous = word
    return labels


def stop(scores, patience, *, equal=False, keep="best", off=0):
    best = 0
    for i, score in enumerate(scores):
        if score > scores[best] or (equal and score >= scores[best]):
            best = i
        if i - best >= patience - off:
            return (i if keep == "last" else best), i
    return best, len(scores) - 1


def choose(runs, targets, *, by=lambda r: r["dev"], summary=lambda v: sum(v) / len(v), sign=1):
    values = [summary([r[t] for t in targets]) for r in runs]
    chosen = max(range(len(runs)), key=lambda i: by(runs[i]))
    return chosen, sign * (max(values) - values[chosen])


WRONG = {
    "06.1": {
        "same-text-in-both": lambda r, held: split(r, held),
        "halves-swapped": lambda r, held: split(r, held, texts_too=True)[::-1],
        "texts-for-templates": lambda r, held: split(r, held, by=0),
        "not-two-lists": lambda r, held: split(r, held)[0],
    },
    "06.2": {
        "every-piece-counts": lambda w, t: pieces(w, t, repeat=True),
        "special-tokens-labelled": lambda w, t: pieces(w, t, special=0),
        "last-piece": lambda w, t: pieces(w, t, last=True),
        "one-label-a-word": lambda w, t: list(t),
        "shifted-labels": lambda w, t: [-100, *t, *[-100] * (len(w) - 1 - len(t))],
    },
    "06.3": {
        "never-stops": lambda s, p: (s.index(max(s)), len(s) - 1),
        "keeps-the-last": lambda s, p: stop(s, p, keep="last"),
        "stops-too-early": lambda s, p: stop(s, p, off=1),
        "stops-too-late": lambda s, p: stop(s, p, off=-1),
        "ties-count-as-progress": lambda s, p: stop(s, p, equal=True),
    },
    "06.4": {
        "oracle": lambda r, t: choose(r, t, by=lambda x: sum(x[c] for c in t)),
        "english-test": lambda r, t: choose(r, t, by=lambda x: x["en"]),
        "gap-reversed": lambda r, t: choose(r, t, sign=-1),
        "worst-instead-of-average": lambda r, t: choose(r, t, summary=min),
    },
}


@pytest.mark.parametrize(("exercise", "name"), [(e, n) for e, cases in WRONG.items() for n in cases])
def test_each_mistake_is_named(exercise, name):
    assert caught(exercise, WRONG[exercise][name]) == name


def test_a_single_loop_over_the_records_is_not_enough():
    def one_pass(records, held):
        train, test = [], []
        for text, template in records:
            if template not in held:
                train.append(text)
            elif text not in train:
                test.append(text)
        return train, test

    assert caught("06.1", one_pass) == "same-text-in-both"
