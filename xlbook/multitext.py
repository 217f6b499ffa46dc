"""Text of many languages for pretraining: what may be learned from, what is held out, and files of one's own.

Training text comes from three sources: interface strings, sentences sampled from command templates, and CLDR names;
translation pairs from the first and the last. Whatever shares its English original with a held-out text stays out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xlbook import corpora
from xlbook.cleaning import clean, key
from xlbook.languages import SOURCE, normalize
from xlbook.records import Pair
from xlbook.runtime import did_you_mean


@dataclass(frozen=True)
class Corpus:
    """What is learned from."""

    texts: dict[str, list[str]]
    """Language -> its texts, cleaned."""
    pairs: dict[str, list[Pair]]
    """Language -> English texts (``a``) with their translations (``b``)."""
    dropped: dict[str, Counter]
    """Language -> reason -> how many texts cleaning left out."""


def course_corpus(languages: Sequence[str], *, per_template: int = 8, seed: int = 0) -> Corpus:
    """Return the training text of some languages: interface strings, sampled commands, CLDR names; and their pairs.

    Texts whose English original lies in the dev or test split are left out, and so are their near duplicates.

    Args:
        languages: any languages that one of the sources has.
        per_template: sentences sampled from each command template.
        seed: seed of the sampling.

    Raises:
        ValueError: if no source has text in a language.

    Example:
        ``course_corpus(["en", "fi"]).pairs["fi"][0]``
    """
    texts, pairs, dropped = {}, {}, {}
    for code in map(normalize, languages):
        raw = raw_texts(code, per_template=per_template, seed=seed)
        cleaned = clean(raw, code, without=held_out(code))
        texts[code], dropped[code] = cleaned.texts, cleaned.dropped
        if code != SOURCE:
            pairs[code] = translations(code)
    return Corpus(texts, pairs, dropped)


def raw_texts(code: str, *, per_template: int = 8, seed: int = 0) -> list[str]:
    """Return all training texts that the sources have in a language, before cleaning.

    Raises:
        ValueError: if no source has the language.
    """
    texts = list(names(code).values())
    if code in corpora.interface_languages():
        texts += corpora.monolingual(code, "train")
    if code in corpora.command_languages():
        texts += [c.text for c in corpora.commands(code, "train", per_template=per_template, seed=seed)]
    if not texts:
        known = sorted({*corpora.interface_languages(), *corpora.command_languages()})
        raise ValueError(f"No text in {code!r}. {did_you_mean(code, known)} Or give a text file of your own.")
    return texts


def names(code: str) -> dict[str, str]:
    """Return the CLDR names of a language whose English name is in the training split, by key; empty if it has none."""
    from babel import UnknownLocaleError

    english = corpora.cldr_names(SOURCE)
    try:
        own = corpora.cldr_names(code)
    except (ValueError, UnknownLocaleError):
        return {}
    return {k: v for k, v in own.items() if k in english and corpora.split_of(english[k]) == "train"}


def translations(code: str) -> list[Pair]:
    """Return English texts with their translations: interface strings and CLDR names of the training split."""
    strings = corpora.parallel(SOURCE, code, "train") if code in corpora.interface_languages() else []
    english, own = corpora.cldr_names(SOURCE), names(code)
    return strings + [
        Pair(english[k], own[k], k) for k in sorted(own) if corpora.fold(own[k]) != corpora.fold(english[k])
    ]


def held_out(code: str, split: str | None = None) -> list[str]:
    """Return interface strings of a language that must not be trained on: dev and test, or one of them."""
    if code not in corpora.interface_languages():
        return []
    return [t for s in ([split] if split else ["dev", "test"]) for t in corpora.monolingual(code, s)]


def dev_texts(code: str, split: str = "dev", *, limit: int = 200) -> list[str]:
    """Return held-out texts of a language: interface strings, then template commands where those are too few."""
    texts = corpora.shuffled(held_out(code, split), 0)
    if len(texts) < limit and code in corpora.command_languages():
        texts += [c.text for c in corpora.commands(code, split, per_template=2)]
    return clean(texts, code).texts[:limit]


def dev_pairs(code: str, split: str = "dev", *, limit: int = 200) -> list[Pair]:
    """Return held-out English texts with translations: interface strings, then CLDR names if those are too few.

    No text occurs twice, and none is a near duplicate of a text in the training pairs.
    """
    strings = corpora.parallel(SOURCE, code, split) if code in corpora.interface_languages() else []
    terms = [p for p in corpora.lexicon(SOURCE, code) if corpora.split_of(p.a) == split]
    trained = translations(code)
    seen_a, seen_b, kept = {key(p.a) for p in trained}, {key(p.b) for p in trained}, []
    for pair in corpora.shuffled(strings, 0) + corpora.shuffled(terms, 0):
        a, b = key(pair.a), key(pair.b)
        if a not in seen_a and b not in seen_b:
            seen_a.add(a), seen_b.add(b), kept.append(pair)
    return kept[:limit]


# --- files of one's own ----------------------------------------------------------------------------------------------


def with_files(
    corpus: Corpus, dev: Mapping[str, list[str]], texts: Mapping[str, Path], pairs: Mapping[str, Path]
) -> tuple[Corpus, dict[str, list[str]]]:
    """Return a corpus with the texts and pairs of some files added, cleaned with what is there already.

    Of each file of texts, one line in twenty is held out.

    Args:
        corpus: what is there, perhaps nothing.
        dev: language -> held-out texts.
        texts: language -> file with one text a line, UTF-8.
        pairs: language -> file with an English text, a tab, and its translation on each line, UTF-8.

    Returns:
        The corpus, and the held-out texts of all its languages.

    Raises:
        ValueError: if a file has no usable line.
    """
    all_texts, dropped, all_pairs = dict(corpus.texts), dict(corpus.dropped), dict(corpus.pairs)
    held = {code: list(own) for code, own in dev.items()}
    for code, file in texts.items():
        lines = clean(Path(file).read_text(encoding="utf-8").splitlines(), code).texts
        held[code] = held.get(code, []) + lines[::20]
        cleaned = clean(all_texts.get(code, []) + lines, code, without=held[code])
        if not cleaned.texts:
            raise ValueError(f"{file} has no usable text in {code!r}: {dict(cleaned.dropped)}. Give one text a line.")
        all_texts[code], dropped[code] = cleaned.texts, dropped.get(code, Counter()) + cleaned.dropped
    for code, file in pairs.items():
        rows = [line.split("\t") for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
        if not rows or any(len(row) != 2 for row in rows):
            raise ValueError(f"{file}: each line must be an English text, a tab, and its translation into {code!r}.")
        all_pairs[code] = all_pairs.get(code, []) + [Pair(a, b, f"{file}:{i}") for i, (a, b) in enumerate(rows, 1)]
    return Corpus(all_texts, all_pairs, dropped), held
