"""Arrays in, dictionaries out: accuracy, macro-F1, slot F1, exact match, retrieval, and how sure one can be.

``evaluate.load("accuracy")`` fetches a script from the Hub; the :class:`evaluate.Metric` subclasses need no network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import datasets
import evaluate
import numpy as np
from sklearn.metrics import f1_score


class Accuracy(evaluate.Metric):
    """Share of predictions that equal the reference.

    >>> Accuracy().compute(predictions=[1, 2, 2], references=[1, 2, 3])["accuracy"]
    0.6666666666666666
    """

    def _info(self):
        return metric_info("share of predictions that equal the reference", datasets.Value("int64"))

    def _compute(self, predictions, references):
        return {"accuracy": accuracy(predictions, references)}


class MacroF1(evaluate.Metric):
    """F1 of each class that occurs in the references, averaged over classes: rare ones count as much as frequent ones.

    Reference: Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, section 13.6.
    """

    def _info(self):
        return metric_info("macro-averaged F1", datasets.Value("int64"))

    def _compute(self, predictions, references):
        return {"macro_f1": macro_f1(predictions, references)}


class SlotF1(evaluate.Metric):
    """F1 over whole slots from BIO tags, as in CoNLL: a slot counts only if its borders and its name are right.

    Reference: Tjong Kim Sang and De Meulder (2003), CoNLL-2003.
    """

    def _info(self):
        return metric_info("F1 over whole slots", datasets.List(datasets.Value("string")))

    def _compute(self, predictions, references):
        return {"slot_f1": slot_f1(predictions, references)}


def metric_info(description: str, feature) -> evaluate.MetricInfo:
    """Return what ``evaluate`` wants to know about a metric."""
    features = datasets.Features({"predictions": feature, "references": feature})
    return evaluate.MetricInfo(description=description, citation="", inputs_description="", features=features)


def same_length(predictions: Sequence, references: Sequence) -> None:
    """Raise ``ValueError`` unless both have the same, positive length."""
    if len(predictions) != len(references) or len(references) == 0:
        raise ValueError(
            f"{len(predictions)} predictions for {len(references)} references; both need the same number, at least one."
        )


def same_tags(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> None:
    """Raise ``ValueError`` unless every sentence has one predicted tag for each reference tag."""
    same_length(predictions, references)
    for number, (predicted, reference) in enumerate(zip(predictions, references)):
        if len(predicted) != len(reference):
            raise ValueError(
                f"Sentence {number} has {len(predicted)} predicted tags for {len(reference)} words; give one each."
            )


def accuracy(predictions: Sequence, references: Sequence) -> float:
    """Return the share of equal entries.

    >>> accuracy(["a", "b"], ["a", "c"])
    0.5
    """
    same_length(predictions, references)
    return float(np.mean([p == r for p, r in zip(predictions, references)]))


def macro_f1(predictions: Sequence, references: Sequence) -> float:
    """Return F1 averaged over the classes of the references."""
    same_length(predictions, references)
    classes = sorted(set(references))
    return float(f1_score(references, predictions, labels=classes, average="macro", zero_division=0))


def whole_slots(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return the slots of one sentence from its BIO tags: name, first word, and the word after the last.

    ``I-area`` goes on with a slot of the same name; after anything else it begins one, as in the script of CoNLL.

    >>> sorted(whole_slots(["O", "B-area", "I-area", "I-device"]))
    [('area', 1, 3), ('device', 3, 4)]

    Reference: Tjong Kim Sang and De Meulder (2003), CoNLL-2003, ``conlleval``.
    """
    slots, begin, name = set(), 0, ""
    for i, tag in enumerate([*tags, "O"]):
        kind, _, now = tag.partition("-")
        if name and (kind != "I" or now != name):
            slots.add((name, begin, i))
            name = ""
        if now and not name:
            begin, name = i, now
    return slots


def slot_f1(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """Return micro-F1 over whole slots of BIO-tagged sentences: 2 x right / (found + to be found), 0 without any.

    >>> slot_f1([["B-area", "O", "B-device"]], [["B-area", "I-area", "B-device"]])
    0.5
    """
    same_tags(predictions, references)
    pairs = [(whole_slots(p), whole_slots(r)) for p, r in zip(predictions, references)]
    right, slots = sum(len(p & r) for p, r in pairs), sum(len(p) + len(r) for p, r in pairs)
    return 2 * right / slots if slots else 0.0


def exact_match(
    intents: Sequence,
    intent_references: Sequence,
    tags: Sequence[Sequence[str]],
    tag_references: Sequence[Sequence[str]],
) -> float:
    """Return the share of commands with the right intent and all slots right: what a user notices.

    Raises:
        ValueError: if the four do not belong to the same commands, or a sentence has too few or too many tags.

    >>> exact_match(["turn_on", "turn_on"], ["turn_on", "turn_off"], [["O"], ["O"]], [["O"], ["O"]])
    0.5
    """
    same_length(intents, intent_references)
    same_tags(tags, tag_references)
    same_length(intents, tags)
    right = [i == ir and list(t) == list(tr) for i, ir, t, tr in zip(intents, intent_references, tags, tag_references)]
    return float(np.mean(right))


def retrieval_accuracy(similarity: np.ndarray) -> float:
    """Return how often row i is most similar to column i.

    Args:
        similarity: queries by items, shape (N, N); the diagonal holds the right answers.

    Raises:
        ValueError: if the matrix is not square.

    >>> retrieval_accuracy(np.eye(3))
    1.0
    """
    similarity = np.asarray(similarity)
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or similarity.size == 0:
        raise ValueError(f"Similarity has shape {similarity.shape}; retrieval needs one right item a query: (N, N).")
    return float(np.mean(similarity.argmax(axis=1) == np.arange(len(similarity))))


def bootstrap(
    scores: Sequence[float], *, statistic: Callable = np.mean, rounds: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of a statistic over resampled test items.

    Args:
        scores: one number for each test item, such as 1 for right and 0 for wrong.
        statistic: called with an array of shape (rounds, N) and ``axis=1``.
        rounds: number of resamples.
        level: coverage, between 0 and 1.
        seed: seed of the resampling.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: if there are no scores, or ``level`` is no share.

    Reference: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level}: give a share between 0 and 1, such as 0.95.")
    values = np.asarray(scores, float)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"Scores have shape {values.shape}; give one number for each test item, at least one.")
    draws = np.random.default_rng(seed).integers(0, len(values), (rounds, len(values)))  # (rounds, N)
    estimates = statistic(values[draws], axis=1)
    low, high = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_bootstrap(a: Sequence[float], b: Sequence[float], *, rounds: int = 2000, seed: int = 0) -> float:
    """Return in which share of resamples system ``a`` is no better than ``b``: small means that ``a`` wins surely.

    Args:
        a: scores of the first system, one a test item.
        b: scores of the second system on the same items.

    Reference: Koehn (2004), Statistical Significance Tests for Machine Translation Evaluation, section 4.
    """
    same_length(a, b)
    difference = np.asarray(a, float) - np.asarray(b, float)
    draws = np.random.default_rng(seed).integers(0, len(difference), (rounds, len(difference)))
    return float(np.mean(difference[draws].mean(axis=1) <= 0))
