"""Look into a multilingual encoder, layer by layer: what is shared between languages, and what tells them apart.

Every text is embedded once for all layers. Then: retrieval in both directions, a probe that names the language, CKA,
anisotropy, a map, and a card of everything that the course knows about one language.
Shapes: N texts (or pairs of translations), D width, one array of shape (layers + 1, N, D) for each language.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xlbook import corpora, tokenization
from xlbook.checkpoints import Encoder
from xlbook.languages import COURSE, SOURCE, language, normalize
from xlbook.representations import center, cosine, cosines, layer_vectors, retrieval


def mean_retrieval(vectors: Mapping[str, np.ndarray], targets: Sequence[str], **way) -> np.ndarray:
    """Return retrieval between English and some languages at every layer, averaged over the languages.

    Args:
        vectors: language -> vectors at all layers, shape (layers + 1, N, D), row i the same text in every language.
        targets: languages to average over.
        **way: ``centred`` and ``k`` of :func:`xlbook.representations.retrieval`.

    Returns:
        Shares from English and to English, shape (layers + 1, 2).
    """
    each = [[retrieval(e, x, **way) for e, x in zip(vectors[SOURCE], vectors[c], strict=True)] for c in targets]
    return np.mean(each, axis=0)


def by_layer(measure: Callable[..., float], vectors: Mapping[str, np.ndarray], **options) -> list[float]:
    """Return a measure of every layer, from the embeddings up.

    Args:
        measure: takes language -> vectors of one layer, shape (N, D), such as :func:`own_language_neighbours`.
        vectors: language -> vectors at all layers, shape (layers + 1, N, D).
        **options: passed on to the measure.

    >>> by_layer(lambda v: float(v["en"].sum()), {"en": np.array([[[1.0, 2.0]], [[3.0, 4.0]]])})
    [3.0, 7.0]
    """
    return [measure({c: v[i] for c, v in vectors.items()}, **options) for i in range(len(vectors[SOURCE]))]


def spelling_similarity(a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """Return how alike texts are spelled: the cosine of their character n-grams (TF-IDF). No model, no meaning.

    >>> spelling_similarity(["Finland"], ["Finnland", "Suomi"]).round(1).tolist()
    [[0.9, 0.0]]
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    letters = TfidfVectorizer(analyzer="char", ngram_range=(1, 3)).fit([*a, *b])
    return (letters.transform(a) @ letters.transform(b).T).toarray()


# --- similarity of whole spaces -----------------------------------------------------------------------------------


def cka(a: np.ndarray, b: np.ndarray) -> float:
    """Return the linear centred kernel alignment of two sets of vectors for the same N texts.

    It compares how the texts lie to each other: rotating, moving or scaling either space changes nothing, and the
    widths may differ.

    Args:
        a: vectors, shape (N, D).
        b: vectors of the same texts in another language, layer or model, shape (N, E).

    Returns:
        A number from 0 to 1. With fewer texts than dimensions it is high for unrelated vectors, too: compare it with
        the value for shuffled rows.

    Raises:
        ValueError: if the numbers of texts differ, or all vectors of one side are the same.

    Reference: Kornblith et al. (2019), Similarity of Neural Network Representations Revisited, section 3.

    >>> float(round(cka(np.eye(3), 2 * np.eye(3)[:, ::-1] + 1), 6))
    1.0
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} vectors; CKA needs the same texts on both sides.")
    a, b = center(np.asarray(a, np.float64)), center(np.asarray(b, np.float64))
    scale = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    if scale == 0:
        raise ValueError("All vectors of one side are the same; CKA is not defined there.")
    return float(np.linalg.norm(b.T @ a) ** 2 / scale)


def anisotropy(vectors: np.ndarray) -> float:
    """Return the mean cosine of all pairs of different texts: 0 if they point everywhere, near 1 in a narrow cone.

    Reference: Ethayarajh (2019), How Contextual are Contextualized Word Representations?, section 4.1.

    >>> anisotropy(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    -1.0
    """
    return cosines(vectors, vectors)["other pairs"]


def identity_probe(by_language: Mapping[str, np.ndarray], *, centred: bool = False, seed: int = 0) -> float:
    """Return how often a linear probe names the language of a vector.

    Half of the texts teach the probe and the other half test it. Translations of one text stay on one side, so the
    probe cannot win by meaning.

    Args:
        by_language: language -> vectors, shape (N, D), row i the same text in every language.
        centred: take each language's mean over the teaching half off first. A linear probe then has nothing left to
            learn from, whatever the model: equal class means make all-zero weights its optimum.
        seed: which half is which.

    Returns:
        Accuracy on the test half; chance is one over the number of languages.

    Reference: Libovický, Rosa and Fraser (2020), On the Language Neutrality of Pre-trained Multilingual
    Representations, section 3 (language identity and centring).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    order = np.random.default_rng(seed).permutation(same_count(by_language))
    teach, test = order[: len(order) // 2], order[len(order) // 2 :]
    means = {c: v[teach].mean(axis=0) if centred else 0 for c, v in by_language.items()}
    x, y = (np.concatenate([v[half] - means[c] for c, v in by_language.items()]) for half in (teach, test))
    names = list(by_language)
    scaler = StandardScaler().fit(x)
    probe = LogisticRegression(max_iter=300).fit(scaler.transform(x), np.repeat(names, len(teach)))
    return float(probe.score(scaler.transform(y), np.repeat(names, len(test))))


def same_count(by_language: Mapping[str, np.ndarray]) -> int:
    """Return the number of texts of each language.

    Raises:
        ValueError: if the languages do not have the same number of texts, or there are fewer than two languages.
    """
    counts = {code: len(v) for code, v in by_language.items()}
    if len(counts) < 2 or len(set(counts.values())) != 1:
        raise ValueError(f"Texts a language: {counts}; give at least two languages with the same texts in each.")
    return next(iter(counts.values()))


def own_language_neighbours(by_language: Mapping[str, np.ndarray], *, centred: bool = False) -> float:
    """Return how often the nearest other text is in the same language.

    Translations of the text itself do not count, so meaning does not decide; a probe's linearity does not either.

    Args:
        by_language: language -> vectors, shape (N, D), row i the same text in every language.
        centred: take each language's own mean off first.

    Returns:
        A share from 0 to 1: 1 where languages lie apart, about one over the number of languages where they are mixed.

    >>> own_language_neighbours({"en": np.array([[1.0, 0.1], [1.0, 0.2]]), "fi": np.array([[0.1, 1.0], [0.2, 1.0]])})
    1.0
    """
    count = same_count(by_language)
    stacked = np.concatenate([center(v) if centred else v for v in by_language.values()])
    scores = cosine(stacked, stacked)
    text, code = np.arange(len(stacked)) % count, np.arange(len(stacked)) // count
    scores[text[:, None] == text[None, :]] = -np.inf
    return float(np.mean(code[scores.argmax(axis=1)] == code))


def principal_axes(vectors: np.ndarray, number: int = 2) -> np.ndarray:
    """Return coordinates on the principal axes with the largest variance, largest first: (N, D) -> (N, number)."""
    centred = center(vectors)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:number].T


# --- a card of a language -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LanguageCard:
    """What the course knows about a language, and what it lacks."""

    code: str
    """Short code."""
    facts: dict[str, str]
    """Name, script, family, direction."""
    data: dict[str, int]
    """Amount of each kind of data: sentences, pairs, templates."""
    measures: dict[str, float]
    """Tokens a word, tokens for each English token, retrieval; empty where there are too few pairs."""
    neighbours: tuple[tuple[str, float], ...]
    """Course languages whose offset from English is most alike, with the cosine of the offsets."""
    missing: tuple[str, ...]
    """One sentence for each kind of data that the course does not have."""

    def rows(self) -> list[dict[str, object]]:
        """Return the card as rows of a table."""
        near = ", ".join(f"{code} ({cosine:.2f})" for code, cosine in self.neighbours) or "–"
        lines = {**self.facts, **self.data, **self.measures, "neighbours": near}
        lines["missing"] = "; ".join(self.missing) or "nothing"
        return [{"what": name, "value": value} for name, value in lines.items()]


FEWEST = 20
"""Pairs below which a measure says nothing and is left out."""


def amounts(code: str) -> tuple[dict[str, int], list[str]]:
    """Return how much of each kind of data there is in a language, and one sentence for each kind that is missing."""
    code, found, missing = normalize(code), {}, []
    kinds = {
        "interface strings, translated": (
            interface_pairs,
            "no interface strings: no retrieval, no tokenizer figures",
        ),
        "names in the lexicon": (
            lexicon_pairs,
            "English is the source: no translation, no retrieval"
            if code == SOURCE
            else "not in CLDR: no word translation",
        ),
        "command templates": (template_count, "no command templates: nothing to teach or test intents with"),
        "natural test commands": (natural_count, "no natural test commands: the report card cannot have this language"),
    }
    for kind, (count, lack) in kinds.items():
        found[kind] = count(code)
        if not found[kind]:
            missing.append(lack)
        elif found[kind] < FEWEST:
            missing.append(f"only {found[kind]} {kind}: too few to measure anything")
    return found, missing


def interface_pairs(code: str) -> int:
    """Return the number of interface strings that exist in English and, really translated, in a language."""
    known = code in corpora.interface_languages()
    return len(corpora.translated(code)) if known else 0


def lexicon_pairs(code: str) -> int:
    """Return the number of names in the CLDR lexicon that differ from the English ones."""
    return 0 if code == SOURCE else len(corpora.lexicon(SOURCE, code))


def template_count(code: str) -> int:
    """Return the number of command templates that can be used."""
    known = code in corpora.command_languages()
    return sum(corpora.coverage(code)["templates"].values()) if known else 0


def natural_count(code: str) -> int:
    """Return the number of natural test commands."""
    return len(corpora.natural(code)) if code in COURSE else 0


def shared_strings(codes: Sequence[str], *, split: str = "test", limit: int | None = None) -> dict[str, list[str]]:
    """Return interface strings that are translated in every one of some languages: row i is the same text in all.

    Args:
        codes: languages, English among them or not.
        split: ``train``, ``dev`` or ``test``.
        limit: at most this many, drawn in a fixed random order.

    Raises:
        ValueError: if a language has no interface strings, or no string is translated in all of them.

    Example:
        ``shared_strings(["en", "zh", "fi"], limit=100)["zh"]``
    """
    own = {code: corpora.translated(code) for code in codes}
    first = {code: corpora.earliest_split(code) for code in codes}
    seen: dict[str, set[str]] = {code: set() for code in codes}
    kept: dict[str, list[str]] = {code: [] for code in codes}
    for key in corpora.shuffled(sorted(set.intersection(*(set(strings) for strings in own.values()))), 0):
        texts = {code: own[code][key] for code in codes}
        folded = {code: corpora.fold(text) for code, text in texts.items()}
        fresh = all(first[c][f] == split and f not in seen[c] for c, f in folded.items())
        if fresh and 12 <= len(corpora.interface_strings(SOURCE)[key]) <= 80:
            for code in codes:
                seen[code].add(folded[code])
                kept[code].append(texts[code])
    if not kept[codes[0]]:
        raise ValueError(f"No {split} string is translated in all of {', '.join(codes)}; leave a language out.")
    return {code: texts[:limit] for code, texts in kept.items()}


def sample_pairs(code: str, limit: int, split: str | None = "test") -> list:
    """Return up to ``limit`` interface strings with their English originals: short ones, in a fixed random order."""
    if code == SOURCE or code not in corpora.interface_languages():
        return []
    pairs = [p for p in corpora.parallel(SOURCE, code, split) if 12 <= len(p.a) <= 80]
    unique = list({corpora.fold(p.a): p for p in pairs}.values())
    unique = list({corpora.fold(p.b): p for p in unique}.values())
    return corpora.shuffled(unique, 0)[:limit]


def offset(english: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the mean step from an English text to its translation: (N, D) twice -> (D,)."""
    return (other - english).mean(axis=0)


def neighbours(offsets: Mapping[str, np.ndarray], code: str, number: int = 3) -> tuple[tuple[str, float], ...]:
    """Return the languages whose offset from English points most in the same direction, nearest first."""
    others = [c for c in offsets if c not in (code, SOURCE)]
    scores = cosine(offsets[code][None], np.stack([offsets[c] for c in others]))[0] if others else []
    return tuple(sorted(((c, float(s)) for c, s in zip(others, scores)), key=lambda pair: -pair[1])[:number])


def language_card(
    encoder: Encoder, code: str, *, layer: int, known: Mapping[str, np.ndarray], limit: int = 100
) -> LanguageCard:
    """Collect what the course knows about a language, in any language of its sources.

    Args:
        encoder: model and tokenizer.
        code: language code, also outside the ten course languages.
        layer: layer of the vectors, counted from the embedding layer 0.
        known: offsets of other languages (:func:`offset`) to find neighbours among; English is left out.
        limit: pairs that retrieval and offset are computed from; the pool size.

    Raises:
        ValueError: if CLDR does not know the language.

    Example:
        ``language_card(encoder, "sw", layer=11, known={}).missing``
    """
    about = language(code)
    code = about.code
    data, missing = amounts(code)
    pairs, measures, near = sample_pairs(code, limit, None), {}, ()
    if len(pairs) >= FEWEST:
        texts = [[p.a for p in pairs], [p.b for p in pairs]]
        english, own = (layer_vectors(encoder, side)[layer] for side in texts)
        there, back = retrieval(english, own, centred=True, k=10)
        tokenizer = encoder.tokenizer.backend_tokenizer
        measures = {
            "tokens a word (fertility)": tokenization.measure(tokenizer, texts[1]).fertility,
            "tokens for each English token": tokenization.parity(tokenizer, texts[1], texts[0])[0],
            "pool of the retrieval": len(pairs),
            "retrieval from English": there,
            "retrieval to English": back,
        }
        near = neighbours({**known, code: offset(english, own)}, code)
    facts = {
        "name": about.name,
        "endonym": about.endonym,
        "script": about.script,
        "family": about.family,
        "direction": about.direction,
    }
    return LanguageCard(code, facts, data, measures, near, tuple(missing))
