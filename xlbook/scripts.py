"""What Unicode knows of characters: their names, their categories, the scripts that they belong to."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable


def characters(text: str) -> list[dict[str, str]]:
    """Return what Unicode knows of each code point: number, category and name.

    >>> characters("é")[0]["name"]
    'LATIN SMALL LETTER E WITH ACUTE'
    """
    return [
        {"code point": f"U+{ord(c):04X}", "category": unicodedata.category(c), "name": unicodedata.name(c, "?")}
        for c in text
    ]


def script_block(character: str) -> str:
    """Return the script word of a character's Unicode name: ``LATIN``, ``CJK``, ``ARABIC`` …, or a symbol's category.

    >>> script_block("я"), script_block("中")
    ('CYRILLIC', 'CJK')
    """
    name = unicodedata.name(character, "")
    letters = unicodedata.category(character)[0] in "LM"
    return name.split(" ")[0] if letters and name else unicodedata.category(character)


def pieces_by_script(pieces: Iterable[str]) -> Counter:
    """Count pieces by the script of their first letter; pieces without a letter count as ``OTHER``.

    >>> pieces_by_script(["▁the", "中国", "12"])
    Counter({'LATIN': 1, 'CJK': 1, 'OTHER': 1})
    """
    letters = [next((c for c in piece if c.isalpha()), "") for piece in pieces]
    return Counter(script_block(c) if c else "OTHER" for c in letters)
