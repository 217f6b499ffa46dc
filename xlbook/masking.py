"""Hide tokens so that a model can learn by guessing them: the corruption of masked language modelling.

:func:`mask_tokens` is the whole idea in one function; :class:`MaskingCollator` pads a batch and applies it anew each
time an example is drawn (dynamic masking). Shapes: B sequences in a batch, L tokens, V pieces in the vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from xlbook.records import IGNORED
from xlbook.scripts import script_block

SHARE = 0.15
KINDS = (0.8, 0.1, 0.1)
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts without spaces between words: there each piece counts as a word."""


def mask_tokens(
    ids: torch.Tensor,
    maskable: torch.Tensor,
    *,
    mask_id: int | torch.Tensor,
    random_ids: torch.Tensor,
    share: float = SHARE,
    kinds: Sequence[float] = KINDS,
    words: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose tokens at random, corrupt them, and return what the model must guess.

    Each maskable token is chosen with probability ``share``, on its own. Of the chosen ones, most become the mask
    token, some a random piece, and some stay as they are, so that the model can trust no token that it sees.

    Args:
        ids: token ids, shape (B, L), long.
        maskable: True where a token may be chosen, False on special tokens and padding, shape (B, L), bool.
        mask_id: id of the mask token; a tensor that broadcasts to (B, 1) gives each sequence its own.
        random_ids: ids that random replacements are drawn from, shape (R,).
        share: probability that a maskable token is chosen.
        kinds: shares of the chosen tokens that are masked, replaced at random, and kept; they sum to 1.
        words: number of the word that each token belongs to, from 0 up, shape (B, L). If given, all tokens of a
            word are chosen together. Numbers under special tokens and padding do not matter.
        generator: source of randomness; ``None`` takes PyTorch's global one.

    Returns:
        The corrupted ids, and the labels: the original id at chosen places, :data:`IGNORED` elsewhere; both (B, L).

    Raises:
        ValueError: if ``share`` is no probability, or ``kinds`` are not three shares that sum to 1.

    Reference: Devlin et al. (2019), BERT, section 3.1 and appendix A.1.

    >>> ids, inner = torch.tensor([[0, 7, 8, 2]]), torch.tensor([[False, True, True, False]])
    >>> mask_tokens(ids, inner, mask_id=4, random_ids=ids[0, 1:3], share=1, kinds=(1, 0, 0))
    (tensor([[0, 4, 4, 2]]), tensor([[-100,    7,    8, -100]]))
    """
    check_shares(share, kinds)
    if words is None:
        lot = torch.rand(ids.shape, generator=generator, device=ids.device)  # (B, L)
    else:
        words = words.clamp(min=0)
        lots = torch.rand((len(ids), int(words.max()) + 1), generator=generator, device=ids.device)  # (B, words)
        lot = lots.gather(1, words)  # (B, L)
    chosen = (lot < share) & maskable
    labels = ids.masked_fill(~chosen, IGNORED)
    kind = torch.rand(ids.shape, generator=generator, device=ids.device)
    masked = chosen & (kind < kinds[0])
    randomized = chosen & (kind >= kinds[0]) & (kind < kinds[0] + kinds[1])
    draw = torch.randint(len(random_ids), ids.shape, generator=generator, device=ids.device)
    corrupted = torch.where(masked, mask_id, ids)
    corrupted = torch.where(randomized, random_ids.to(ids.device)[draw], corrupted)
    return corrupted, labels


def check_shares(share: float, kinds: Sequence[float]) -> None:
    """Raise ``ValueError`` unless ``share`` is in (0, 1] and ``kinds`` are three shares that sum to 1."""
    if not 0 < share <= 1:
        raise ValueError(f"share={share!r}: give a probability above 0 and up to 1; BERT used 0.15.")
    if len(kinds) != 3 or min(kinds) < 0 or abs(sum(kinds) - 1) > 1e-6:
        raise ValueError(f"kinds={tuple(kinds)!r}: give three shares (mask, random, keep) that sum to 1.")


def mask_shares(batch: dict, original: torch.Tensor, maskable: torch.Tensor, mask_id: int) -> dict[str, float]:
    """Return what a collator did to a batch, as shares that the theory predicts.

    Args:
        batch: ``input_ids`` and ``labels`` after masking, each (B, L).
        original: the ids before masking, shape (B, L).
        maskable: where a token may be chosen, shape (B, L).
        mask_id: id of the mask token.

    Returns:
        The share of the maskable tokens that was chosen; the shares of these that became the mask, became another
        piece, or stayed; and the share of all other places that was chosen, which must be 0.
    """
    chosen, new = batch["labels"] != IGNORED, batch["input_ids"]
    masked, same = chosen & (new == mask_id), chosen & (new == original)
    count = int(chosen.sum())
    return {
        "chosen": int((chosen & maskable).sum()) / int(maskable.sum()),
        "mask": int(masked.sum()) / count,
        "another piece": (count - int(masked.sum()) - int(same.sum())) / count,
        "unchanged": int(same.sum()) / count,
        "chosen where none may be": int((chosen & ~maskable).sum()) / max(1, int((~maskable).sum())),
    }


def word_starts(pieces: Sequence[str]) -> torch.Tensor:
    """Return which pieces of a vocabulary begin a word: True or False for each, shape (V,).

    SentencePiece marks the beginning of a word with ``▁``, WordPiece marks the rest of a word with ``##``. In scripts
    that are written without spaces, each piece counts as a word of its own: a "word" would be a whole clause.

    >>> word_starts(["▁turn", "ing", "▁", "灯"]).tolist()
    [True, False, True, True]
    """
    wordpiece = any(p.startswith("##") for p in pieces)

    def starts(piece: str) -> bool:
        letters = piece.removeprefix("##").lstrip("▁")
        if letters and script_block(letters[0]) in UNSPACED:
            return True
        return not piece.startswith("##") if wordpiece else piece.startswith("▁")

    return torch.tensor([starts(p) for p in pieces])


def generator_of(seed: int, draw: int) -> torch.Generator:
    """Return a fresh generator for one draw of one example: the same numbers on every machine and after a resume."""
    digest = hashlib.sha256(f"mask-{seed}-{draw}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class MaskingCollator:
    """Pad examples, mark what may be masked, and mask it: a new mask for each draw of an example.

    Where an example carries ``draw`` (:func:`xlbook.training.fit` numbers the draws of a run), its mask is a function
    of the seed and that number. So a run that was killed and resumed, or that is spread over several processes, sees
    the same masks as one that ran through. Examples without ``draw`` are masked with PyTorch's global generator.

    Args:
        tokenizer: a fast tokenizer with a mask token that pads on the right.
        share: probability that a token is chosen.
        kinds: shares of the chosen tokens that are masked, replaced and kept.
        whole_words: choose all pieces of a word together.
        seed: seed of the masks.

    Raises:
        ValueError: if the tokenizer has no mask token or no padding token, or the shares are out of range.

    Example:
        ``MaskingCollator(tokenizer)([{"input_ids": [0, 57, 58, 2]}])["labels"]``

    Reference: Liu et al. (2019), RoBERTa, section 4.1 (dynamic masking).
    """

    def __init__(
        self,
        tokenizer,
        *,
        share: float = SHARE,
        kinds: Sequence[float] = KINDS,
        whole_words: bool = False,
        seed: int = 0,
    ):
        check_shares(share, kinds)
        if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
            raise ValueError(
                "This tokenizer has no mask token or no padding token; a masked language model needs both."
            )
        self.share, self.kinds, self.whole_words, self.seed = share, tuple(kinds), whole_words, seed
        self.mask_id, self.pad_id = tokenizer.mask_token_id, tokenizer.pad_token_id
        self.special = torch.tensor(sorted(tokenizer.all_special_ids))
        everything = torch.arange(len(tokenizer))
        self.random_ids = everything[~torch.isin(everything, self.special)]
        self.starts = word_starts(tokenizer.convert_ids_to_tokens(everything.tolist())) if whole_words else None

    def __call__(self, examples: Sequence[dict]) -> dict[str, torch.Tensor]:
        """Return ``input_ids`` (corrupted), ``attention_mask``, ``labels``, and any ``position_ids``; all (B, L)."""
        batch = self.pad(examples)
        ids, labels = batch["input_ids"], torch.full_like(batch["input_ids"], IGNORED)
        for row, example in enumerate(examples):
            n = len(example["input_ids"])
            generator = generator_of(self.seed, example["draw"]) if "draw" in example else None
            ids[row, :n], labels[row, :n] = (x[0] for x in self.mask(ids[row : row + 1, :n], generator=generator))
        return batch | {"labels": labels}

    def pad(self, examples: Sequence[dict]) -> dict[str, torch.Tensor]:
        """Return ``input_ids``, ``attention_mask`` and, if the examples have them, ``position_ids``, padded: (B, L)."""
        rows = {"input_ids": self.pad_id, "attention_mask": 0}
        if "position_ids" in examples[0]:
            rows["position_ids"] = 0
        width = max(len(e["input_ids"]) for e in examples)
        batch = {name: torch.full((len(examples), width), filler) for name, filler in rows.items()}
        for row, example in enumerate(examples):
            for name, target in batch.items():
                values = [1] * len(example["input_ids"]) if name == "attention_mask" else example[name]
                target[row, : len(values)] = torch.tensor(values)
        return batch

    def maskable(self, ids: torch.Tensor) -> torch.Tensor:
        """Return True where a token is neither special nor padding: (B, L) -> (B, L)."""
        return ~torch.isin(ids, self.special)

    def mask(self, ids: torch.Tensor, *, generator: torch.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return corrupted ids and labels: (B, L) -> two of (B, L)."""
        words = None
        if self.starts is not None:
            words = self.starts[ids].long().cumsum(1)  # (B, L): how many words have begun
        return mask_tokens(
            ids,
            self.maskable(ids),
            mask_id=self.mask_id,
            random_ids=self.random_ids,
            share=self.share,
            kinds=self.kinds,
            words=words,
            generator=generator,
        )
