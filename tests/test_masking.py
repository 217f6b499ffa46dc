"""Masking: what is chosen, how often, what it becomes, and that a run can be repeated; against theory and library."""

import math

import numpy as np
import pytest
import torch
from small_encoder import word_level
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from xlbook import masking, training
from xlbook.masking import KINDS, SHARE, MaskingCollator, generator_of, mask_tokens, word_starts
from xlbook.records import IGNORED

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] + [f"▁w{i}" for i in range(40)] + [f"x{i}" for i in range(55)]
MASK, FIRST = 4, 5
"""Id of the mask token, and the first id of an ordinary piece."""


@pytest.fixture(scope="module")
def tokenizer():
    """A hundred pieces: five special ones, forty that begin words, fifty-five that go on."""
    return word_level(PIECES)


def batch(rows: int = 400, length: int = 50, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ordinary ids between ``<s>`` and ``</s>``, the last third padded; and what may be masked."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(FIRST, len(PIECES), (rows, length), generator=generator)
    ids[:, 0], ids[:, 34], ids[:, 35:] = 0, 2, 1
    return ids, ids >= FIRST


def masked(ids, maskable, *, seed: int = 1, **options):
    options = {"mask_id": MASK, "random_ids": torch.arange(FIRST, len(PIECES))} | options
    return mask_tokens(ids, maskable, generator=torch.Generator().manual_seed(seed), **options)


def near(count: int, total: int, share: float) -> bool:
    """Whether a count is within four standard deviations of a binomial's mean."""
    return abs(count - total * share) <= 4 * math.sqrt(total * share * (1 - share))


# --- what the mask does ----------------------------------------------------------------------------------------------


def test_labels_are_the_original_at_chosen_places_and_ignored_elsewhere():
    ids, maskable = batch()
    corrupted, labels = masked(ids, maskable)
    chosen = labels != IGNORED
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(corrupted[~chosen], ids[~chosen])


def test_special_tokens_and_padding_are_never_chosen_or_changed():
    ids, maskable = batch()
    for share in (SHARE, 1):
        corrupted, labels = masked(ids, maskable, share=share)
        assert (labels[~maskable] == IGNORED).all()
        assert torch.equal(corrupted[~maskable], ids[~maskable])


def test_the_shares_are_those_of_bert():
    assert (SHARE, KINDS) == (0.15, (0.8, 0.1, 0.1))
    ids, maskable = batch(2000)
    corrupted, labels = masked(ids, maskable)
    chosen = labels != IGNORED
    n = int(chosen.sum())
    assert near(n, int(maskable.sum()), 0.15)
    assert near(int((corrupted == MASK).sum()), n, 0.8)
    other = chosen & (corrupted != MASK) & (corrupted != ids)
    pieces = len(PIECES) - FIRST
    assert near(int(other.sum()), n, 0.1 * (pieces - 1) / pieces)  # a random piece is sometimes the same one
    assert near(int((chosen & (corrupted == ids)).sum()), n, 0.1 + 0.1 / pieces)


@pytest.mark.parametrize("kinds", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_each_kind_alone(kinds):
    ids, maskable = batch()
    corrupted, labels = masked(ids, maskable, kinds=kinds)
    chosen = labels != IGNORED
    assert ((corrupted == MASK)[chosen] == bool(kinds[0])).all()
    if kinds[2]:
        assert torch.equal(corrupted, ids)
    if kinds[1]:
        assert (corrupted[chosen] != ids[chosen]).float().mean() > 0.9 and (corrupted[chosen] >= FIRST).all()


def test_random_pieces_come_evenly_from_the_ids_that_were_given():
    ids, maskable = batch(3000)
    allowed = torch.tensor([10, 20, 30, 40])
    corrupted, labels = masked(ids, maskable, kinds=(0, 1, 0), random_ids=allowed)
    drawn = corrupted[labels != IGNORED]
    assert set(drawn.tolist()) == set(allowed.tolist())
    assert all(near(int((drawn == i).sum()), len(drawn), 0.25) for i in allowed)


def test_places_are_chosen_independently():
    """The number of chosen tokens a row is binomial: its variance would be smaller if a fixed number were chosen."""
    ids, maskable = batch(4000)
    counts = (masked(ids, maskable)[1] != IGNORED).sum(1).float()
    n = int(maskable[0].sum())
    assert counts.mean().item() == pytest.approx(0.15 * n, rel=0.03)
    assert counts.var().item() == pytest.approx(n * 0.15 * 0.85, rel=0.1)


def test_a_mask_id_for_each_sequence():
    ids, maskable = batch(2)
    corrupted, labels = masked(ids, maskable, mask_id=torch.tensor([[3], [4]]), kinds=(1, 0, 0), share=0.9)
    for row, expected in enumerate((3, 4)):
        assert set(corrupted[row][labels[row] != IGNORED].tolist()) == {expected}


def test_the_input_is_left_as_it_is_and_the_seed_decides():
    ids, maskable = batch()
    before = ids.clone()
    first, again, other = (masked(ids, maskable, seed=s) for s in (1, 1, 2))
    assert torch.equal(ids, before)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_whole_words_are_chosen_together_with_the_same_share():
    ids, maskable = batch(2000)
    words = torch.arange(ids.shape[1]).div(3, rounding_mode="floor").expand(ids.shape)
    corrupted, labels = masked(ids, maskable, words=words)
    chosen = labels != IGNORED
    for start in range(3, 33, 3):
        assert (chosen[:, start] == chosen[:, start + 1]).all() and (chosen[:, start] == chosen[:, start + 2]).all()
    assert chosen[:, 3:33].float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert not chosen[~maskable].any()


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_must_be_a_probability(share):
    with pytest.raises(ValueError, match="probability"):
        masked(*batch(2), share=share)


@pytest.mark.parametrize("kinds", [(0.8, 0.1), (0.8, 0.1, 0.2), (1.1, -0.1, 0)])
def test_kinds_must_be_three_shares(kinds):
    with pytest.raises(ValueError, match="three shares"):
        masked(*batch(2), kinds=kinds)


def test_the_statistics_count_what_was_done():
    """Ten tokens, eight maskable: four are chosen, of which two are masked, one replaced, one kept."""
    original, maskable = torch.arange(20, 30)[None], torch.tensor([[False, *[True] * 8, False]])
    new, labels = original.clone(), torch.full_like(original, IGNORED)
    labels[0, 1:5] = original[0, 1:5]
    new[0, 1], new[0, 2], new[0, 3] = MASK, MASK, 99
    found = masking.mask_shares({"input_ids": new, "labels": labels}, original, maskable, MASK)
    assert list(found.values()) == [0.5, 0.5, 0.25, 0.25, 0.0]
    labels[0, 0] = 20
    assert masking.mask_shares({"input_ids": new, "labels": labels}, original, maskable, MASK)[
        "chosen where none may be"
    ] == pytest.approx(0.5)


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["▁turn", "ing", "▁"], [True, False, True]),
        (["turn", "##ing", "灯"], [True, False, True]),
        (["▁打开", "灯", "안", "ों"], [True, True, False, False]),
    ],
)
def test_where_words_begin(pieces, expected):
    assert word_starts(pieces).tolist() == expected


# --- the collator ----------------------------------------------------------------------------------------------------


def examples(count: int = 300, *, numbered: bool = True) -> list[dict]:
    """Texts of 3 to 20 words between ``<s>`` and ``</s>``."""
    generator = np.random.default_rng(0)
    rows = [[0, *generator.integers(FIRST, len(PIECES), generator.integers(3, 20)).tolist(), 2] for _ in range(count)]
    return [{"input_ids": ids} | ({"draw": i} if numbered else {}) for i, ids in enumerate(rows)]


def test_a_batch_has_the_right_shape_and_no_mask_where_none_may_be(tokenizer):
    some = examples()
    made = MaskingCollator(tokenizer, share=1.0)(some)
    width = max(len(e["input_ids"]) for e in some)
    assert {k: tuple(v.shape) for k, v in made.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "labels"), (len(some), width)
    )
    for row, example in enumerate(some):
        n = len(example["input_ids"])
        assert made["attention_mask"][row].tolist() == [1] * n + [0] * (width - n)
        assert made["labels"][row].tolist() == [IGNORED, *example["input_ids"][1:-1], IGNORED] + [IGNORED] * (width - n)
        assert made["input_ids"][row, n:].eq(1).all() and made["input_ids"][row, 0] == 0


def test_unknown_pieces_are_special_too(tokenizer):
    made = MaskingCollator(tokenizer, share=1.0)([{"input_ids": [0, 3, 9, 2]}])
    assert made["labels"].tolist() == [[IGNORED, IGNORED, 9, IGNORED]]


def test_positions_are_padded_along(tokenizer):
    some = [
        {"input_ids": [0, 9, 2, 2, 9, 2], "position_ids": [0, 1, 2, 0, 1, 2]},
        {"input_ids": [0, 2], "position_ids": [0, 1]},
    ]
    assert MaskingCollator(tokenizer)(some)["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2], [0, 1, 0, 0, 0, 0]]


def test_random_replacements_are_ordinary_pieces(tokenizer):
    made = MaskingCollator(tokenizer, share=1.0, kinds=(0, 1, 0))(examples())
    assert (made["input_ids"][made["labels"] != IGNORED] >= FIRST).all()


def test_the_same_distribution_as_the_librarys_collator(tokenizer):
    """Shares of masked, changed and kept tokens, by our collator and by the library's, on the same texts."""
    some, ours, theirs = examples(3000), MaskingCollator(tokenizer), DataCollatorForLanguageModeling(tokenizer, seed=0)

    def shares(made: dict, original: torch.Tensor) -> list[float]:
        chosen = made["labels"] != IGNORED
        assert not chosen[original < FIRST].any()
        new, kept = made["input_ids"], made["input_ids"] == original
        total = int((original >= FIRST).sum())
        return [int(x.sum()) / total for x in (chosen, new == MASK, chosen & kept, chosen & ~kept & (new != MASK))]

    original = ours.pad(some)["input_ids"]
    mine = shares(ours(some), original)
    other = shares(theirs([{"input_ids": e["input_ids"]} for e in some]), original)
    deviation = math.sqrt(0.15 * 0.85 / int((original >= FIRST).sum()))
    assert mine == pytest.approx(other, abs=6 * deviation)


def test_the_mask_of_a_draw_depends_on_nothing_but_seed_and_number(tokenizer):
    some, collate = examples(8), MaskingCollator(tokenizer, seed=3, share=0.5)
    together, alone = collate(some), [collate([e]) for e in some]
    torch.rand(5)
    for row, one in enumerate(alone):
        n = one["labels"].shape[1]
        assert torch.equal(together["labels"][row, :n], one["labels"][0])
        assert torch.equal(together["input_ids"][row, :n], one["input_ids"][0])


def test_masking_is_dynamic(tokenizer):
    """Another draw of the same example, or another seed, has another mask."""
    text = examples(1)[0]["input_ids"] * 3
    masks = [
        MaskingCollator(tokenizer, seed=seed)([{"input_ids": text, "draw": draw}])["labels"]
        for seed, draw in ((0, 0), (0, 1), (1, 0))
    ]
    assert not any(torch.equal(masks[a], masks[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_without_numbers_the_global_generator_decides(tokenizer):
    some, collate = examples(8, numbered=False), MaskingCollator(tokenizer)
    torch.manual_seed(5)
    first = collate(some)["labels"]
    second = collate(some)["labels"]
    torch.manual_seed(5)
    assert torch.equal(first, collate(some)["labels"]) and not torch.equal(first, second)


def test_whole_words_in_the_collator(tokenizer):
    text = [0, *[FIRST, 60, 61, FIRST + 1, 62] * 8, 2]
    collate = MaskingCollator(tokenizer, whole_words=True, share=0.4)
    labels = collate([{"input_ids": text, "draw": d} for d in range(200)])["labels"][:, 1:-1] != IGNORED
    for place in range(0, 40, 5):
        assert (labels[:, place] == labels[:, place + 1]).all() and (labels[:, place] == labels[:, place + 2]).all()
        assert (labels[:, place + 3] == labels[:, place + 4]).all()
        assert (labels[:, place] != labels[:, place + 3]).any()


def test_a_tokenizer_needs_a_mask_token(tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="<pad>")
    with pytest.raises(ValueError, match="no mask token"):
        MaskingCollator(bare)


def test_generators_differ_and_repeat():
    values = [torch.rand(1, generator=generator_of(s, d)).item() for s, d in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert values[0] == values[3] and len(set(values)) == 3


def test_one_number_for_ignored_labels():
    assert training.IGNORED == masking.IGNORED == torch.nn.CrossEntropyLoss().ignore_index
