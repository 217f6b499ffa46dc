"""How well a model guesses hidden tokens of unseen text, in bits per byte, beside counting baselines.

A *pseudo*-likelihood: each token of a text is hidden once and guessed from all the others (only some at a time are
hidden). The sum of -log2 p over the tokens, divided by the UTF-8 bytes of the text, can be compared between
tokenizers; it is no compression rate, because the guesses see both sides. The baselines guess the same tokens from
counts: from nothing (unigram), or from the neighbours on both sides. Shapes: B texts, L tokens, V pieces.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch

EVERY = 7
"""One token in so many is hidden at a time: about as many as in training."""


@torch.inference_mode()
def hidden_log_probabilities(lm, tokenizer, texts: Sequence[str], *, every: int = EVERY) -> list[list[float]]:
    """Return log p(token | the rest) of each token of each text, every token hidden once.

    In pass k the tokens k, k + ``every``, k + 2 ``every`` … of a text are masked and guessed.

    Args:
        lm: a model such as ``BertForMaskedLM``.
        tokenizer: its tokenizer.
        texts: N texts.
        every: distance of the tokens that are hidden together; a number above any length hides one at a time.

    Returns:
        N lists of natural logarithms, special tokens left out.

    Reference: Salazar et al. (2020), Masked Language Model Scoring, section 2 (there with one token at a time).
    """
    lm.eval()
    rows = tokenizer(list(texts), truncation=True, max_length=tokenizer.model_max_length)["input_ids"]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    places = [[i for i, token in enumerate(ids) if token not in special] for ids in rows]
    found = [[0.0] * len(own) for own in places]
    jobs = [(n, k) for n, own in enumerate(places) for k in range(min(every, len(own)))]
    jobs.sort(key=lambda job: len(rows[job[0]]))
    for start in range(0, len(jobs), 128):
        some = jobs[start : start + 128]
        batch = tokenizer.pad({"input_ids": [rows[n] for n, _ in some]}, return_tensors="pt")
        hidden = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
        for row, (n, k) in enumerate(some):
            hidden[row, places[n][k::every]] = True
        truth = batch["input_ids"][hidden]  # (M,)
        batch["input_ids"] = batch["input_ids"].masked_fill(hidden, tokenizer.mask_token_id)
        logits = lm(**batch.to(lm.device)).logits[hidden.to(lm.device)].float().cpu()  # (M, V)
        scores = iter(torch.log_softmax(logits, -1).gather(1, truth[:, None])[:, 0].tolist())
        for n, k in some:
            for place in range(k, len(places[n]), every):
                found[n][place] = next(scores)
    return found


def bits_per_byte(log_probabilities: Sequence[Sequence[float]], texts: Sequence[str]) -> float:
    """Return the sum of -log2 p over all tokens, divided by the UTF-8 bytes of the texts.

    Args:
        log_probabilities: one list of natural logarithms a text, covering all of it.
        texts: the texts. None may be longer than the model's longest input: what is cut off costs no bits.

    Raises:
        ValueError: if there are not as many lists as texts, or no text.

    >>> bits_per_byte([[math.log(1 / 4)] * 4], ["four"])
    2.0
    """
    if len(texts) != len(log_probabilities) or not texts:
        raise ValueError(f"{len(log_probabilities)} lists for {len(texts)} texts; give one list for each text.")
    return -math.fsum(p for own in log_probabilities for p in own) / math.log(2) / sum(len(t.encode()) for t in texts)


def perplexity(log_probabilities: Sequence[Sequence[float]]) -> float:
    """Return the exponential of the mean -log p of a *token*; not comparable between tokenizers.

    >>> round(perplexity([[math.log(1 / 8), math.log(1 / 2)]]), 6)
    4.0
    """
    values = [p for own in log_probabilities for p in own]
    return math.exp(-math.fsum(values) / len(values))


class Unigram:
    """Guess each token by its frequency in the training text, with one added to every count.

    Args:
        rows: token ids of the training texts, special tokens left out.
        pieces: V, the size of the vocabulary.
    """

    def __init__(self, rows: Sequence[Sequence[int]], pieces: int):
        self.counts, self.pieces = Counter(i for ids in rows for i in ids), pieces
        self.total = sum(self.counts.values())

    def probability(self, token: int) -> float:
        """Return (count + 1) / (total + V)."""
        return (self.counts[token] + 1) / (self.total + self.pieces)

    def log_probabilities(self, ids: Sequence[int]) -> list[float]:
        """Return log p of each token of a text."""
        return [math.log(self.probability(i)) for i in ids]


class Neighbours:
    """Guess each token from the tokens beside it: p(token | left, right), backing off to one side and to frequency.

    Four estimates are mixed, from both neighbours down to frequency: each takes the share c / (c + ``trust``) of what
    is left, where c is how often its context occurred in training (Witten-Bell's idea with a fixed constant).

    Args:
        rows: token ids of the training texts, special tokens left out.
        pieces: V, the size of the vocabulary.
        trust: how many occurrences of a context are believed half.
    """

    def __init__(self, rows: Sequence[Sequence[int]], pieces: int, *, trust: float = 2.0):
        self.unigram, self.trust = Unigram(rows, pieces), trust
        self.counts: Counter = Counter()
        for ids in rows:
            for token, contexts in zip(ids, contexts_of(ids)):
                self.counts.update(contexts)
                self.counts.update((c, token) for c in contexts)

    def log_probabilities(self, ids: Sequence[int]) -> list[float]:
        """Return log p of each token of a text, given its neighbours."""
        scores = []
        for token, contexts in zip(ids, contexts_of(ids)):
            p, left = 0.0, 1.0
            for context in contexts:
                seen = self.counts[context]
                if seen:
                    share = left * seen / (seen + self.trust)
                    p, left = p + share * self.counts[context, token] / seen, left - share
            scores.append(math.log(p + left * self.unigram.probability(token)))
        return scores


def contexts_of(ids: Sequence[int]) -> Iterator[tuple]:
    """Yield for each token its contexts, the most telling first: both neighbours, the left one, the right one.

    >>> list(contexts_of([7, 8]))
    [(('both', -1, 8), ('left', -1), ('right', 8)), (('both', 7, -1), ('left', 7), ('right', -1))]
    """
    padded = [-1, *ids, -1]
    for left, right in zip(padded, padded[2:]):
        yield ("both", left, right), ("left", left), ("right", right)


def judge(models: Mapping[str, object], tokenizer, texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return bits per byte and perplexity of each model on some texts, every token guessed once.

    Args:
        models: name -> a network such as ``BertForMaskedLM``, or a counting baseline of this module.
        tokenizer: the tokenizer of all of them.
        texts: held-out texts.
    """
    rows, judged = plain_ids(tokenizer, texts), {}
    for name, model in models.items():
        if isinstance(model, torch.nn.Module):
            guesses = hidden_log_probabilities(model, tokenizer, texts)
        else:
            guesses = [model.log_probabilities(ids) for ids in rows]
        judged[name] = (bits_per_byte(guesses, texts), perplexity(guesses))
    return judged


def plain_ids(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of some texts, without special tokens."""
    longest = tokenizer.model_max_length - 2
    return [ids[:longest] for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


@torch.inference_mode()
def fill(lm, tokenizer, text: str, *, best: int = 5) -> list[list[tuple[str, float]]]:
    """Return the most probable pieces for each ``<mask>`` in a text, with their probabilities.

    Args:
        lm: a model such as ``BertForMaskedLM``.
        tokenizer: its tokenizer.
        text: a text with one mask token or more.
        best: how many pieces.

    Raises:
        ValueError: if the text has no mask token.

    Example:
        ``fill(lm, tokenizer, "Turn <mask> the light")[0][0]``
    """
    lm.eval()
    batch = tokenizer(text, return_tensors="pt", truncation=True, max_length=tokenizer.model_max_length).to(lm.device)
    hidden = batch["input_ids"] == tokenizer.mask_token_id
    if not hidden.any():
        raise ValueError(f"No {tokenizer.mask_token} in {text!r}; put it where a piece is to be guessed.")
    logits = lm(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[hidden].float()  # (M, V)
    logits[:, tokenizer.all_special_ids] = float("-inf")
    top = torch.softmax(logits, -1).topk(best)  # (M, best)
    names = [tokenizer.convert_ids_to_tokens(row) for row in top.indices.tolist()]
    return [list(zip(n, p)) for n, p in zip(names, top.values.tolist())]
