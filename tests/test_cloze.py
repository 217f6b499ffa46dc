"""Guessing hidden tokens: each once, against a hand-made model; bits per byte; the counting baselines by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
from small_encoder import word_level
from torch import nn

from xlbook.cloze import (
    Neighbours,
    Unigram,
    bits_per_byte,
    fill,
    hidden_log_probabilities,
    judge,
    perplexity,
    plain_ids,
)

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdefgh"]
MASK = 4


@pytest.fixture(scope="module")
def tokenizer():
    return word_level(PIECES, model_max_length=32)


class Fixed(nn.Module):
    """Guesses at every place with probabilities ∝ id + 1, and remembers what it was shown."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, input_ids, attention_mask):
        self.seen += [row[mask == 1].tolist() for row, mask in zip(input_ids, attention_mask)]
        row = torch.log(torch.arange(1.0, len(PIECES) + 1))
        return SimpleNamespace(logits=row.expand(*input_ids.shape, -1))


def expected(ids: list[int]) -> list[float]:
    return [math.log((i + 1) / sum(range(1, len(PIECES) + 1))) for i in ids]


TEXTS = ["a b c d e f g h a b", "c", "b a zzz"]
IDS = [[5, 6, 7, 8, 9, 10, 11, 12, 5, 6], [7], [6, 5, 3]]


@pytest.mark.parametrize("every", [1, 3, 7, 99])
def test_each_token_is_guessed_once_and_in_its_place(tokenizer, every):
    model = Fixed()
    found = hidden_log_probabilities(model, tokenizer, TEXTS, every=every)
    for own, ids in zip(found, IDS):
        assert own == pytest.approx(expected(ids))
    hidden = [sum(token == MASK for token in row) for row in model.seen]
    assert sum(hidden) == sum(map(len, IDS))
    assert all(row[0] == 0 and row[-1] == 2 for row in model.seen)
    if every == 99:
        assert set(hidden) == {1}


def test_tokens_hidden_together_are_far_apart(tokenizer):
    model = Fixed()
    hidden_log_probabilities(model, tokenizer, TEXTS[:1], every=4)
    places = [[i for i, token in enumerate(row) if token == MASK] for row in model.seen]
    assert sorted(places) == [[1, 5, 9], [2, 6, 10], [3, 7], [4, 8]]


def test_bits_per_byte_counts_bytes_not_letters():
    assert bits_per_byte([[math.log(0.5)] * 3], ["灯"]) == pytest.approx(1.0)
    assert bits_per_byte([[math.log(0.5)] * 6, []], ["灯", "abc"]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="one list"):
        bits_per_byte([[0.0]], [])


def test_bits_per_byte_do_not_depend_on_how_a_text_is_cut():
    """Two cuts of one text with the same total probability: same bits per byte, other perplexities."""
    fine, coarse = [[math.log(1 / 2)] * 8], [[math.log(1 / 16)] * 2]
    assert bits_per_byte(fine, ["8 bytes!"]) == pytest.approx(bits_per_byte(coarse, ["8 bytes!"]))
    assert perplexity(fine) == pytest.approx(2) and perplexity(coarse) == pytest.approx(16)


def test_unigram_by_hand():
    model = Unigram([[5, 5, 6], [5]], pieces=10)
    assert model.log_probabilities([5, 6, 9]) == pytest.approx([math.log(x / 14) for x in (4, 2, 1)])


def test_neighbours_by_hand():
    model = Neighbours([[5, 6, 7], [5, 6, 7], [5, 8, 7]], pieces=10, trust=1.0)
    both = 3 / 4  # (5, ?, 7) occurred three times
    one_sided = (1 - both) * 3 / 4  # 5 on the left, three times; then 7 on the right
    right = (1 - both - one_sided) * 3 / 4
    rest = 1 - both - one_sided - right
    by_hand = (both + one_sided + right) * 2 / 3 + rest * Unigram([[5, 6, 7], [5, 6, 7], [5, 8, 7]], 10).probability(6)
    assert math.exp(model.log_probabilities([5, 6, 7])[1]) == pytest.approx(by_hand)


@pytest.mark.parametrize("context", [(5, 7), (6, 6), (11, 12)])
def test_probabilities_sum_to_one(context):
    model = Neighbours([[5, 6, 7, 6], [5, 8, 7], [6, 9, 6]], pieces=len(PIECES))
    left, right = context
    total = sum(math.exp(model.log_probabilities([left, token, right])[1]) for token in range(len(PIECES)))
    assert total == pytest.approx(1)


def test_neighbours_beat_frequency_where_order_matters():
    rows = [[5, 6, 7, 8] * 3] * 5
    seen, plain = Neighbours(rows, 13), Unigram(rows, 13)
    assert sum(seen.log_probabilities(rows[0])) > sum(plain.log_probabilities(rows[0])) / 4


def test_plain_ids_have_no_special_tokens(tokenizer):
    assert plain_ids(tokenizer, TEXTS) == IDS
    assert len(plain_ids(tokenizer, ["a " * 50])[0]) == 30


def test_fill_gives_ordinary_pieces_with_probabilities(tokenizer):
    guesses = fill(Fixed(), tokenizer, "a <mask> c <mask>", best=2)
    assert [[piece for piece, _ in one] for one in guesses] == [["h", "g"], ["h", "g"]]
    assert guesses[0][0][1] == pytest.approx(13 / sum(range(6, 14)))
    with pytest.raises(ValueError, match="No <mask>"):
        fill(Fixed(), tokenizer, "a b")


def test_networks_and_counts_are_judged_alike(tokenizer):
    found = judge({"net": Fixed(), "count": Unigram(IDS, len(PIECES))}, tokenizer, TEXTS)
    by_hand = [expected(ids) for ids in IDS]
    assert found["net"] == pytest.approx((bits_per_byte(by_hand, TEXTS), perplexity(by_hand)))
    assert found["count"][0] < found["net"][0]
