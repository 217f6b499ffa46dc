"""Clean and deduplicate text before a model learns from it, and count what was left out and why.

A text is normalized, then goes through :data:`STEPS` in order; the first step that objects names the reason. What a
model sees a hundred times it learns by heart, and a test text that also lies in the training set tests nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from xlbook.languages import language
from xlbook.scripts import script_block

SCRIPTS = {
    "Latn": "LATIN",
    "Hans": "CJK",
    "Hant": "CJK",
    "Cyrl": "CYRILLIC",
    "Arab": "ARABIC",
    "Deva": "DEVANAGARI",
    "Kore": "HANGUL",
    "Jpan": "CJK HIRAGANA KATAKANA",
    "Grek": "GREEK",
    "Hebr": "HEBREW",
    "Thai": "THAI",
}
"""ISO 15924 code of a script -> first words of its characters' Unicode names; other scripts are not checked."""
SHORTEST, LONGEST = 2, 300
"""Fewest letters and most characters of a text that is kept."""


@dataclass(frozen=True)
class Cleaned:
    """What is left, and what was not."""

    texts: list[str]
    """The texts that are kept, in their order."""
    dropped: Counter
    """Reason -> number of texts that it cost."""


def normalized(text: str) -> str:
    """Return a text in Unicode's composed form, without control characters and with single spaces.

    >>> normalized("  Cafe\\u0301 \\u200b\\n open ")
    'Café open'
    """
    text = unicodedata.normalize("NFC", text)
    text = "".join(
        " " if c in "\t\n\r" else c for c in text if unicodedata.category(c) not in ("Cc", "Co") or c in "\t\n\r"
    )
    return " ".join(text.replace("\u200b", "").replace("\ufeff", "").split())


def letters(text: str) -> list[str]:
    """Return the letters of a text, vowel signs and other marks included."""
    return [c for c in text if unicodedata.category(c)[0] in "LM"]


def is_short(text: str, script: str) -> bool:
    """Return whether a text has too few letters to learn from."""
    return len(letters(text)) < SHORTEST


def is_long(text: str, script: str) -> bool:
    """Return whether a text is too long for one example."""
    return len(text) > LONGEST


def is_code(text: str, script: str) -> bool:
    """Return whether less than half of a text's visible characters are letters: numbers, codes, tables."""
    return 2 * len(letters(text)) < len(text.replace(" ", ""))


def is_foreign(text: str, script: str) -> bool:
    """Return whether most letters of a text belong to another script than the language's.

    >>> is_foreign("Bluetooth", "Deva"), is_foreign("स्पीकर चालू करें Hi-Fi", "Deva")
    (True, False)
    """
    known = SCRIPTS.get(script, "").split()
    own = [c for c in letters(text) if unicodedata.category(c)[0] == "L"]
    return bool(known) and 2 * sum(script_block(c) in known for c in own) < len(own)


STEPS: dict[str, Callable[[str, str], bool]] = {
    "too short": is_short,
    "too long": is_long,
    "hardly any letters": is_code,
    "another script": is_foreign,
}
"""Reason -> what objects to a text; asked in this order, before duplicates are looked for."""


def key(text: str) -> str:
    """Return the form in which two texts count as near duplicates: case, punctuation, spaces and numbers folded.

    >>> key("Set it to 20 %!") == key("set it to 35%")
    True
    """
    text = re.sub(r"\d+", "0", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in text if unicodedata.category(c)[0] in "LMN")


def clean(texts: Iterable[str], code: str, *, without: Iterable[str] = ()) -> Cleaned:
    """Clean and deduplicate the texts of one language.

    Args:
        texts: raw texts.
        code: their language; decides which script is expected.
        without: texts that are held out: their near duplicates are left out, too.

    Returns:
        The kept texts in their order, and how many were dropped for which reason.

    Raises:
        ValueError: if the language is unknown.

    Reference: Lee et al. (2022), Deduplicating Training Data Makes Language Models Better; the steps are ours.

    >>> clean(["Turn on!", "turn on", "Turn on", "42", "Turn off"], "en").texts
    ['Turn on!', 'Turn off']
    """
    script = language(code).script
    held, seen_exactly, seen = {key(normalized(t)) for t in without}, set(), set()
    kept, dropped = [], Counter()
    for text in map(normalized, texts):
        reason = next((name for name, objects in STEPS.items() if objects(text, script)), None)
        folded = key(text)
        if reason is None and folded in held:
            reason = "held out"
        elif reason is None and text in seen_exactly:
            reason = "duplicate"
        elif reason is None and folded in seen:
            reason = "near duplicate"
        if reason:
            dropped[reason] += 1
            continue
        seen_exactly.add(text)
        seen.add(folded)
        kept.append(text)
    return Cleaned(kept, dropped)
