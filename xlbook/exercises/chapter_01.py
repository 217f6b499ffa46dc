"""The exercises of chapter 01: normalization, longest match, sampling, trimming."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from xlbook.exercises import Wrong


def exercise_1(answer) -> None:
    """A function (a, b) -> whether two texts are the same after NFKC."""
    if not isinstance(answer("a", "a"), bool | np.bool_):
        raise Wrong("no-truth-value", "Return True or False: the result of a comparison.")
    if not answer("cafe\u0301", "café"):
        raise Wrong("not-normalized", "An accent typed in two ways counts as a difference. Normalize both texts first.")
    if answer("कि", "की") or answer("schon", "schön"):
        raise Wrong(
            "marks-deleted", "Two different words count as the same: you delete marks. In Hindi they are vowels."
        )
    if not answer("２０ＡＢ", "20AB") or not answer("ﬁle", "file"):
        raise Wrong(
            "canonical-form-only", "Full-width letters count as a difference. NFC and NFD keep them; NFKC does not."
        )
    if answer("ON", "on"):
        raise Wrong("case-folded", "Upper and lower case count as the same. NFKC keeps case, and so does XLM-R.")
    if answer("a b", "ab") or answer("a ", "a"):
        raise Wrong("spaces-deleted", "A text with a space and one without are not the same text.")


def exercise_2(answer) -> None:
    """A function (word, vocabulary) -> WordPiece's pieces: longest match first, from the left."""
    vocabulary = {"un", "u", "##n", "unlock", "##l", "##ock", "##lock", "##able", "able", "[UNK]"}
    answers = [answer(word, vocabulary) for word in ("unlockable", "unlock", "unx")]
    if any(isinstance(received, str) for received in answers):
        raise Wrong("text-instead-of-list", "You return a text. Return a list of pieces, also if it is [UNK] alone.")
    pieces = [list(received) for received in answers]
    if pieces[1][:1] in (["u"], ["un"]):
        raise Wrong(
            "shortest-match-first", "You take a short piece where a longer one fits. Try the longest end first."
        )
    if pieces[0] == ["unlock", "able"]:
        raise Wrong("no-continuation-mark", "Inside a word, pieces are looked up, and returned, with ## in front.")
    if pieces[0] in (["unlock"], ["[UNK]"]):
        raise Wrong(
            "stops-after-first-piece", "You stop after the first piece. Go on from where it ended, with ## in front."
        )
    if pieces[2] != ["[UNK]"]:
        raise Wrong("partly-unknown", f"`unx` has no complete cut, so the whole word is unknown; received {pieces[2]}.")
    theirs = library_pieces(["".join(p) for p in permutations("abc")] + ["abcabc", "cab"])
    for word, expected in theirs.items():
        if expected == ["[UNK]"] and list(answer(word, LETTERS)) != expected:
            raise Wrong("backtracks", f"You take a piece back to save {word!r}. WordPiece never does: it is unknown.")
        if list(answer(word, LETTERS)) != expected:
            raise Wrong("other", f"For {word!r} the library gives {expected}; received {answer(word, LETTERS)}.")


LETTERS = {piece: i for i, piece in enumerate(["[UNK]", "a", "ab", "b", "c", "##a", "##b", "##bc", "##ca"])}


def library_pieces(words: list[str]) -> dict[str, list[str]]:
    """Return the cuts of the ``tokenizers`` library for a small vocabulary."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece

    library = Tokenizer(WordPiece(LETTERS, unk_token="[UNK]"))
    return {word: library.encode(word).tokens for word in words}


def exercise_3(answer) -> None:
    """A function (sizes, alpha, total) -> language -> how often its text is repeated."""
    sizes, total = {"en": 900, "hi": 100}, 2000
    received = answer(sizes, 0.5, total)
    if not isinstance(received, dict) or set(received) != set(sizes):
        raise Wrong("no-dictionary", "Return a dictionary with the same languages as the input.")
    values = np.array([received["en"], received["hi"]], float)
    if np.allclose(values, [0.75, 0.25]):
        raise Wrong(
            "share-instead-of-repetitions", "These are shares. How many characters is that, and how many are there?"
        )
    if np.allclose(values, [1500, 500]):
        raise Wrong("characters-instead-of-repetitions", "These are characters drawn. Divide by what the language has.")
    if np.allclose(values, [2, 2]):
        raise Wrong(
            "alpha-ignored", "Both languages are repeated alike: that is alpha = 1. Raise the sizes to a power."
        )
    if values[0] > values[1]:
        raise Wrong("inverse-exponent", "The larger language is repeated more. The exponent is alpha, not 1 / alpha.")
    if not np.isclose(values @ [900, 100], total):
        raise Wrong("not-normalized", "All drawn characters together are not `total`. Divide by the sum of the powers.")
    if not np.allclose(values, [1500 / 900, 5]):
        raise Wrong("other", f"For sizes {sizes}, alpha 0.5 and total 2000, 1.67 and 5 are right; received {received}.")
    if not np.isclose(answer({"a": 7, "b": 1}, 0, 16)["b"], 8):
        raise Wrong("not-equal-at-zero", "At alpha = 0, every language should get the same number of characters.")


def exercise_4(answer) -> None:
    """A function (rows, special, texts) -> the kept rows in old order, and the texts in new ids."""
    rows = np.arange(12.0).reshape(6, 2)  # (V, D)
    texts = [[5, 3], [3]]
    received = answer(rows, [0, 1], texts)
    if not isinstance(received, tuple | list) or len(received) != 2:
        raise Wrong("one-thing", "Return two things: the matrix of the kept rows, and the texts in the new ids.")
    kept, renumbered = received
    if isinstance(renumbered, dict):
        raise Wrong("table-instead-of-texts", "You return the table from old to new ids. Translate the texts with it.")
    if isinstance(renumbered, np.ndarray) and renumbered.dtype == rows.dtype:
        raise Wrong("wrong-order", "The matrix comes first, then the texts.")
    kept, renumbered = np.asarray(kept), [list(map(int, ids)) for ids in renumbered]
    if len(kept) == 2:
        raise Wrong("special-tokens-lost", "The special tokens are gone. Keep their rows, also if no text has them.")
    if len(kept) == len(rows):
        raise Wrong("nothing-trimmed", "All rows are still there. Keep those that a text or a special token needs.")
    if renumbered == texts:
        raise Wrong("old-ids", "The texts still have the old ids, which point outside the new matrix. Translate them.")
    if not np.allclose(kept[renumbered[0]], rows[texts[0]]):
        raise Wrong(
            "rows-and-ids-disagree", "A text now reads other vectors than before. Use one order for rows and ids."
        )
    if not np.allclose(kept, rows[[0, 1, 3, 5]]):
        raise Wrong("order-of-appearance", "The rows are not in the order of their old ids. Sort the kept ids first.")
    if renumbered != [[3, 2], [2]]:
        raise Wrong("other", f"For texts {texts} the new ids are [[3, 2], [2]]; received {renumbered}.")
