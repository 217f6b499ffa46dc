"""English and fake English in one tiny masked language model: what puts the two into one space, row by row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xlbook import fake_english, recipes
from xlbook.training import Settings

TRAIN, TEST, PIECES, WORDS = 500, 500, 512, 10
"""Verse openings to learn from, others to find again, pieces a language, words an opening."""
STEPS, BATCH, RATE = 1600, 64, 6e-3
"""Updates, sequences in an update, peak learning rate at width 64; wider models take a smaller one in proportion."""


def run(condition: fake_english.Condition, seed: int, *, device: str = "cpu") -> dict:
    """Train one small model and return its scores, rounded."""
    corpus = fake_english.text(train=TRAIN, test=TEST, pieces=PIECES, words=WORDS)
    settings = Settings(steps=STEPS, batch_size=BATCH, learning_rate=RATE * 64 / condition.width, seed=seed)
    return trained(corpus, condition, settings, device=device)


def trained(
    corpus: fake_english.Text, condition: fake_english.Condition, settings: Settings, *, device: str, every: int = 25
) -> dict:
    """Train one model and return its scores and, every so many updates, its loss, rounded."""
    model, history = fake_english.train(corpus, condition, settings, device=device)
    scores = fake_english.measure(model, corpus)
    rounded = {name: np.round(value, 4).tolist() for name, value in scores.items()}
    return rounded | {"curve": np.round(history.losses[every - 1 :: every], 3).tolist()}


def rows(device: str) -> dict[str, Callable[[int], dict]]:
    """Return the members of the experiment by name: functions of the seed that return scores."""
    return {
        name: lambda seed, condition=condition: run(condition, seed, device=device)
        for name, condition in fake_english.ablations().items()
    }


def summary(number: str = "04") -> list[dict]:
    """Return one line a row of a recipe's stored results: means over seeds at each seed's best layer.

    ``loss`` and ``train loss`` are measured with the same masks in all rows. ``objective`` is where the training curve
    ends (its last tenth): on what the row itself had to guess, so rows of other corruptions have other tasks.
    """
    lines = []
    for row, members in recipes.by_row(number).items():
        scores = [one["scores"] for one in members]
        found = [fake_english.best(s["retrieval"]) for s in scores]
        lines.append(
            {
                "row": row,
                "seeds": len(members),
                "retrieval": float(np.mean(found)),
                "lowest": min(found),
                "highest": max(found),
                "centred": float(np.mean([fake_english.best(s["centred"]) for s in scores])),
                "words": float(np.mean([fake_english.best(s["words"]) for s in scores])),
                "loss": float(np.mean([s["loss"] for s in scores])),
                "train loss": float(np.mean([s["train loss"] for s in scores])),
                "objective": float(np.mean([np.mean(s["curve"][-len(s["curve"]) // 10 :]) for s in scores])),
            }
        )
    return lines
