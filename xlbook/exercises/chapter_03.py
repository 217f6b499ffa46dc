"""Checks for the exercises of chapter 03: labels, positions, language shares, bits per byte."""

from __future__ import annotations

import math

from xlbook.exercises import Wrong


def exercise_1(answer) -> None:
    """A function (ids, chosen) -> labels: the original id at chosen places, -100 elsewhere."""
    ids, chosen = [0, 57, 58, 59, 2], [False, True, False, True, False]
    received = list(answer(list(ids), list(chosen)))
    if len(received) != len(ids):
        raise Wrong("only-the-chosen", f"One label a token is needed: {len(ids)}, not {len(received)}.")
    if received == [0, 57, 58, 59, 2]:
        raise Wrong("every-token-labelled", "Each token has a label. Then copying what is visible is most of the task.")
    if received == [0, -100, 58, -100, 2]:
        raise Wrong("places-swapped", "The visible tokens have labels, and the hidden ones are left out.")
    if received == [0, 57, 0, 59, 0]:
        raise Wrong("zero-instead-of-ignored", "0 is the id of a piece. The model would learn to say it everywhere.")
    if received[1] == received[3] and received[1] not in (-100, 57):
        raise Wrong("mask-as-label", "The label is the original token, not the mask: the mask is what the model sees.")
    if received != [-100, 57, -100, 59, -100]:
        raise Wrong("other", f"Expected [-100, 57, -100, 59, -100]; received {received}.")


def exercise_2(answer) -> None:
    """A function (ids, end) -> positions of ``<s> a </s> </s> b </s>``, the second text counted from 0 again."""
    ids = [0, 7, 8, 2, 2, 9, 5, 6, 2]
    received = list(answer(list(ids), 2))
    if received == list(range(len(ids))):
        raise Wrong("no-reset", "The positions run through. The second text must begin with 0 again.")
    if received == [0, 1, 2, 3, 4, 0, 1, 2, 3]:
        raise Wrong("reset-too-late", "The second </s> belongs to the second text: it takes the place of <s>.")
    if received == [0, 1, 2, 0, 1, 2, 3, 4, 5]:
        raise Wrong("reset-too-early", "The first </s> still belongs to the first text.")
    if received == [0, 1, 2, 0, 0, 1, 2, 3, 0]:
        raise Wrong("reset-at-every-end", "Reset once, after the first </s>, not at each of them.")
    if min(received, default=1) == 1:
        raise Wrong("counts-from-one", "BERT counts positions from 0.")
    if received != [0, 1, 2, 3, 0, 1, 2, 3, 4]:
        raise Wrong("other", f"Expected [0, 1, 2, 3, 0, 1, 2, 3, 4]; received {received}.")
    if list(answer([0, 7, 8, 9, 6, 2, 2, 5, 2], 2)) != [0, 1, 2, 3, 4, 5, 0, 1, 2]:
        raise Wrong("fixed-place", "Right for one pair. Where does the second text begin if the first one is longer?")


def exercise_3(answer) -> None:
    """A function (sizes, alpha, draws) -> how often each text of a language is drawn: shares p ∝ n^alpha."""
    sizes = {"en": 900, "hi": 100}
    received = dict(answer(dict(sizes), 0.5, 2000))
    if set(received) != set(sizes):
        raise Wrong("not-a-dictionary-of-languages", f"Return a number for each of {sorted(sizes)}.")

    def close(en: float, hi: float) -> bool:
        return math.isclose(received["en"], en, rel_tol=1e-6) and math.isclose(received["hi"], hi, rel_tol=1e-6)

    if close(0.75, 0.25):
        raise Wrong(
            "shares-only", "These are the shares. How many draws does a language get, and how many texts has it?"
        )
    if close(1500, 500):
        raise Wrong("draws-not-divided", "These are the draws of each language. Divide by its number of texts.")
    if close(2.0, 2.0):
        raise Wrong("alpha-ignored", "Every text is drawn equally often: alpha has no effect in your shares.")
    if close(2000 * 30 / 900, 2000 * 10 / 100) or close(2000 * 0.9**0.5 / 900, 2000 * 0.1**0.5 / 100):
        raise Wrong("not-normalized", "After the power, the numbers no longer sum to 1. Divide by their sum.")
    if close(2000 * (1 / 30) / (1 / 30 + 1 / 10) / 900, 2000 * (1 / 10) / (1 / 30 + 1 / 10) / 100):
        raise Wrong(
            "negative-power", "You divide by the power. A small language must not become larger than a big one."
        )
    if not close(1500 / 900, 5.0):
        raise Wrong("other", f"Expected en 1.667 and hi 5.0; received {received}.")
    received = dict(answer(dict(sizes), 1.0, 2000))
    if not close(2.0, 2.0):
        raise Wrong(
            "alpha-misplaced",
            "Right for one half. With alpha 1, though, each text of each language is drawn equally often.",
        )


def exercise_4(answer) -> None:
    """A function (log_probabilities, text) -> bits per byte of one text."""
    logs, text = [math.log(0.5), math.log(0.125), math.log(0.25)], "灯 on"
    received = float(answer(list(logs), text))

    def is_value(value: float) -> bool:
        return math.isclose(received, value, rel_tol=1e-6)

    if is_value(-1.0):
        raise Wrong("sign", "Information is never negative: -log p.")
    if is_value(6 * math.log(2) / 6):
        raise Wrong("nats", "These are nats. A bit is log 2 of them.")
    if is_value(6 * math.log(2) ** 2 / 6):
        raise Wrong("wrong-way", "A bit is smaller than a nat, so there are more bits than nats: divide by log 2.")
    if is_value(6 / 4):
        raise Wrong("characters", "You divided by characters. In UTF-8 this text has more bytes than characters.")
    if is_value(2.0):
        raise Wrong("per-token", "You divided by tokens: that depends on the tokenizer.")
    if is_value(2.0 / 6):
        raise Wrong("mean-over-bytes", "Sum over the tokens first; their mean divided by bytes counts them twice.")
    if not is_value(1.0):
        raise Wrong("other", f"Expected 1.0 bits per byte; received {received}.")
