"""Checks for the exercises of chapter 06: splits, label alignment, early stopping, honest selection."""

from __future__ import annotations

import numpy as np

from xlbook.exercises import Wrong


def exercise_1(answer) -> None:
    """A function (records, test_templates) -> (training texts, test texts) that shares no template and no text."""
    records = [("on", "t2"), ("on", "t1"), ("light on", "t1"), ("switch on", "t2"), ("off", "t3")]
    received = answer(list(records), {"t2"})
    if not isinstance(received, tuple) or len(received) != 2:
        raise Wrong("not-two-lists", "Return two lists: training texts and test texts.")
    train, test = (list(part) for part in received)
    if train == ["on", "light on", "off"] and test == ["on", "switch on"]:
        raise Wrong("same-text-in-both", "The text 'on' is in both halves: another template produced it, too.")
    if train == ["switch on"]:
        raise Wrong("halves-swapped", "You trained on the test templates and tested on the others.")
    if not test:
        raise Wrong(
            "texts-for-templates", "Your test is empty. Compare the template of each record with `test_templates`."
        )
    if train != ["on", "light on", "off"] or test != ["switch on"]:
        raise Wrong("other", f"Expected ['on', 'light on', 'off'] and ['switch on']; received {received!r}.")


def exercise_2(answer) -> None:
    """A function (word_ids, tags) -> one label a piece: first pieces only, -100 elsewhere."""
    word_ids, tags = [None, 0, 1, 1, 1, 2, None], [0, 5, 6]
    received = list(answer(word_ids, tags))
    if len(received) != len(word_ids):
        raise Wrong("one-label-a-word", f"One label a piece is needed: {len(word_ids)}, not {len(received)}.")
    if received == [-100, 0, 5, 5, 5, 6, -100]:
        raise Wrong(
            "every-piece-counts", "A word of three pieces counts three times. Only its first piece gets the label."
        )
    if received == [0, 5, 6, -100, -100, -100, -100] or received == [-100, 0, 5, 6, -100, -100, -100]:
        raise Wrong("shifted-labels", "The labels are handed out piece by piece. They shift at the first long word.")
    if received[0] == 0 or received[-1] == 0:
        raise Wrong("special-tokens-labelled", "Special tokens got a label. They belong to no word: use -100.")
    if received == [-100, 0, -100, -100, 5, 6, -100]:
        raise Wrong("last-piece", "You labelled the last piece of each word. The convention is the first.")
    if received != [-100, 0, 5, -100, -100, 6, -100]:
        raise Wrong("other", f"Expected [-100, 0, 5, -100, -100, 6, -100]; received {received}.")


def exercise_3(answer) -> None:
    """A function (scores, patience) -> (index of the kept model, index of the last evaluation)."""
    scores = [0.5, 0.6, 0.6, 0.7, 0.65, 0.7, 0.9]
    kept, last = answer(list(scores), 2)
    if (kept, last) == (6, 6):
        kept, last = answer([0.5, 0.6, 0.4, 0.3, 0.2, 0.9], 2)
        if last == 3:
            raise Wrong("ties-count-as-progress", "An equal score is no improvement; the count does not start again.")
        if last == 4:
            raise Wrong("stops-too-late", "Patience 2 ends training at the second evaluation without a new best score.")
        raise Wrong("never-stops", "You looked at all scores. Training stops when patience runs out.")
    if (kept, last) == (5, 5):
        raise Wrong("keeps-the-last", "You keep the last model. Keep the best one.")
    if last == 4 or last == 2:
        raise Wrong("stops-too-early", "Patience 2 means two evaluations in a row without a new best score.")
    if kept == 5:
        raise Wrong("ties-count-as-progress", "An equal score is no improvement; the earlier model is kept.")
    if (kept, last) != (3, 5):
        raise Wrong("other", f"For {scores} and patience 2 the answer is (3, 5); received {(kept, last)}.")
    if answer([0.1, 0.2, 0.3], 2) != (2, 2):
        raise Wrong("no-stop-needed", "When scores keep rising, the last evaluation is made and kept.")


def exercise_4(answer) -> None:
    """A function (runs, targets) -> (index chosen by dev, oracle average minus chosen average)."""
    runs = [
        {"dev": 0.90, "en": 0.95, "zh": 0.50, "fi": 0.40},
        {"dev": 0.92, "en": 0.90, "zh": 0.60, "fi": 0.40},
        {"dev": 0.88, "en": 0.91, "zh": 0.70, "fi": 0.60},
    ]
    chosen, gap = answer([dict(r) for r in runs], ("zh", "fi"))
    if chosen == 2:
        raise Wrong("oracle", "You chose by the target languages. That is the oracle, not a zero-shot system.")
    if chosen == 0:
        raise Wrong("english-test", "You chose by the English test set. Select on dev; the test set is for reporting.")
    if np.isclose(gap, -0.15):
        raise Wrong("gap-reversed", "The gap is oracle minus honest choice, so it is never negative.")
    if np.isclose(gap, 0.2):
        raise Wrong("worst-instead-of-average", "Compare averages over the target languages, not the worst language.")
    if chosen != 1 or not np.isclose(gap, 0.15):
        raise Wrong("other", f"The answer is (1, 0.15); received {(chosen, gap)!r}.")
