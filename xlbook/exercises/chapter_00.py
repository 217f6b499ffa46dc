"""Checks for the exercises of chapter 00: chance level, nearest example, reading a score card."""

from __future__ import annotations

import numpy as np

from xlbook.exercises import Wrong


def exercise_1(answer) -> None:
    """A function (train_labels, test_labels) -> accuracy of always giving the most frequent training label."""
    train, test = ["a"] * 5 + ["b"] * 3, ["b", "b", "b", "a"]
    received = answer(train, test)
    if received == 0.75:
        raise Wrong(
            "majority-of-the-test-set", "You took the most frequent label of the test set. A model never sees it."
        )
    if received == 5 / 8:
        raise Wrong(
            "share-in-training", "That is the label's share of the training set. Which share of the test is right?"
        )
    if received == 1 / 2:
        raise Wrong(
            "uniform-guess", "That is guessing among the classes. A majority baseline always says the same label."
        )
    if received == "a":
        raise Wrong(
            "label-instead-of-accuracy", "You returned the label. Return the share of test items it gets right."
        )
    if received != 0.25:
        raise Wrong(
            "other", f"For 5 a and 3 b in training and 1 a in 4 test items, 0.25 is right; received {received!r}."
        )


def exercise_2(answer) -> None:
    """A function (queries, items) -> index of the item with the highest cosine for each query."""
    queries = np.array([[1.0, 0.1], [0.0, 2.0]])
    items = np.array([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    received = np.asarray(answer(queries, items)).tolist()
    if received == [2, 2]:
        raise Wrong("dot-product", "Long vectors win: you compare dot products. Divide by the lengths first.")
    if received == (queries @ items.T / np.linalg.norm(items, axis=1)).argmin(axis=1).tolist():
        raise Wrong("least-similar", "You return the least similar item. Cosine is a similarity: more is closer.")
    if len(received) == len(items):
        raise Wrong("wrong-axis", "You return one index for each item. The question is asked once for each query.")
    if np.ndim(received) != 1:
        raise Wrong("scores-instead-of-indices", "Return indices, one for each query, not the similarities.")
    if received != [0, 1]:
        raise Wrong("other", f"For the check's two queries the answer is [0, 1]; received {received}.")
    if np.ravel(answer(np.array([[1.0, 0.0]]), np.array([[9.0, 0.5], [1.0, 0.6]]))).tolist() != [0]:
        raise Wrong(
            "euclidean-distance", "A long item in the right direction loses to a short one nearby: that is distance."
        )


def exercise_3(answer) -> None:
    """A function (scores) -> (average without English, code of the worst language without English)."""
    scores = {"en": 0.9, "zh": 0.6, "de": 0.8, "fi": 0.1}
    received = answer(dict(scores))
    if not isinstance(received, tuple) or len(received) != 2:
        raise Wrong(
            "one-number", "Return two things: the average of the target languages and the code of the worst one."
        )
    average, worst = received
    if isinstance(average, str):
        raise Wrong("wrong-order", "The average comes first, then the code of the worst language.")
    if np.isclose(average, 1.5 / 4):
        raise Wrong("divided-by-all", "You add up three languages and divide by four. English is left out of both.")
    if np.isclose(average, np.mean(list(scores.values()))):
        raise Wrong("english-in-the-average", "English is in your average. It was trained on; the others were not.")
    if worst == "de":
        raise Wrong(
            "best-instead-of-worst", "You return the best language. One average can hide a language that fails."
        )
    if isinstance(worst, float):
        raise Wrong("score-instead-of-code", "Return the code of the worst language, such as 'fi', not its score.")
    if not np.isclose(average, 0.5) or worst != "fi":
        raise Wrong("other", f"For {scores} the answer is (0.5, 'fi'); received {received!r}.")


def exercise_4(answer) -> None:
    """A function (labels_of_neighbours) -> the most frequent label; the nearest neighbour decides ties."""
    cases = {("a", "b", "b"): "b", ("a", "b"): "a", ("c", "a", "b"): "c", ("b", "a", "a", "b"): "b"}
    received = {case: answer(list(case)) for case in cases}
    if any(isinstance(r, tuple) for r in received.values()):
        raise Wrong("pair-instead-of-label", "You return a label together with its count. Return the label alone.")
    if all(received[case] == case[0] for case in cases):
        raise Wrong("only-the-nearest", "You return the nearest neighbour's label and never count the others.")
    if received[("c", "a", "b")] == "a" or received[("b", "a", "a", "b")] == "a":
        raise Wrong(
            "alphabetical-ties", "Ties go to the first label in the alphabet. The nearest neighbour should decide."
        )
    if all(isinstance(r, int) for r in received.values()):
        raise Wrong("count-instead-of-label", "You return a count. Return the label that has it.")
    if received[("a", "b", "b")] == "b" and received != cases:
        raise Wrong("ties-not-to-the-nearest", f"Where two labels have as many votes, the first one wins: {received}.")
    if received != cases:
        raise Wrong("other", f"One of the cases is off: {received}.")
