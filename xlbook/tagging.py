"""Slots as labels of words, and word labels on the pieces that a model sees: what a tagger is taught and scored on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from xlbook.records import IGNORED, SLOTS, Command

TAGS = ("O", *(f"{edge}-{slot}" for slot in SLOTS for edge in "BI"))
"""``O`` is outside a slot, ``B-area`` begins one, ``I-area`` goes on with it."""
UNIT = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")
EDGE = " \t.,;:!?…'\"()[]«»„“”‘’、。！？，：；؟،।-–—"


def words(text: str) -> list[tuple[int, int]]:
    """Return the words of a text as character spans: between spaces, no punctuation; a Chinese character is a word.

    >>> words("Turn it off, 关灯!")
    [(0, 4), (5, 7), (8, 11), (13, 14), (14, 15)]
    """
    spans = []
    for match in UNIT.finditer(text):
        unit = match[0]
        start = match.start() + len(unit) - len(unit.lstrip(EDGE))
        end = match.end() - (len(unit) - len(unit.rstrip(EDGE)))
        if end > start:
            spans.append((start, end))
    return spans


def word_tags(command: Command) -> list[str]:
    """Return the BIO tag of each word: ``B-area`` begins a slot, ``I-area`` goes on with it, ``O`` is outside.

    A word carries a slot if they overlap, so that ``Lasagnetimer`` is ``B-timer``.

    >>> from xlbook.records import Span
    >>> word_tags(Command("in the living room", "turn_on", "en", "x", (Span(7, 18, "area"),)))
    ['O', 'O', 'B-area', 'I-area']
    """
    tags, last = [], None
    for start, end in words(command.text):
        span = next((s for s in command.slots if s.start < end and start < s.end), None)
        tags.append("O" if span is None else f"{'I' if span is last else 'B'}-{span.slot}")
        last = span
    return tags


def first_pieces(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each word the number of the piece that holds its first character, -1 if it was cut off.

    Args:
        offsets: character span of each piece; special tokens have an empty one.
        spans: character span of each word.
    """
    return [next((i for i, (a, b) in enumerate(offsets) if a <= start < b), -1) for start, _ in spans]


def align_labels(tags: Sequence[str], pieces: Sequence[int], length: int) -> list[int]:
    """Put each word's tag on its first piece and :data:`IGNORED` on all others.

    Args:
        tags: one tag a word.
        pieces: from :func:`first_pieces`.
        length: number of pieces in the sentence, special tokens included.

    Reference: Devlin et al. (2019), BERT, section 5.3.

    >>> align_labels(["O", "B-area"], [1, 2], 5)
    [-100, 0, 1, -100, -100]
    """
    labels = [IGNORED] * length
    for tag, piece in zip(tags, pieces):
        if piece >= 0 and labels[piece] == IGNORED:
            labels[piece] = TAGS.index(tag)
    return labels
