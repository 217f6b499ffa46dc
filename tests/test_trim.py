"""Trimming: kept text keeps its vectors, ids are renumbered everywhere, what was dropped is unknown."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from xlbook import checkpoints
from xlbook.checkpoints import Encoder, save, size_report
from xlbook.representations import embed
from xlbook.trimming import bare, kept_pieces, piece_list, trim_vocabulary

PIECES = "<s> <pad> </s> <unk> ▁ ▁turn ▁on ▁the ▁light s ▁φως φ ω ς ▁w x 灯 开 <mask>".split()
KEPT_TEXT = ["turn on the lights", "开灯", "w"]


def unigram():
    header = {"bos": 0, "pad": 1, "eos": 2, "unk": 3, "positions": 64}
    scores = [0.0 if p.startswith("<") else -2.0 - i / 10 for i, p in enumerate(PIECES)]
    return checkpoints.unigram_tokenizer(list(zip(PIECES, scores)), {}, header)


def wordpiece():
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "turn",
        "on",
        "the",
        "light",
        "##s",
        "w",
        "##x",
        "φ",
        "##ω",
        "灯",
    ]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = checkpoints.bracket_processor("[CLS]", "[SEP]", 2, 3)
    names = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)


@pytest.fixture(params=[unigram, wordpiece], ids=["unigram", "wordpiece"])
def encoder(request, tmp_path):
    torch.manual_seed(0)
    tokenizer = request.param()
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id,
                        eos_token_id=tokenizer.sep_token_id)  # fmt: skip
    made = Encoder(BertModel(config, add_pooling_layer=False).eval(), tokenizer, tmp_path / "model")
    save(made)
    return made


def vectors(encoder, texts):
    return embed(encoder, texts, prefix="")


def test_kept_text_keeps_its_vectors(encoder, tmp_path):
    small = trim_vocabulary(encoder, KEPT_TEXT, tmp_path / "small")
    assert size_report(small)["pieces"] < size_report(encoder)["pieces"]
    assert size_report(small)["MB in memory"] < size_report(encoder)["MB in memory"]
    np.testing.assert_allclose(vectors(small, KEPT_TEXT), vectors(encoder, KEPT_TEXT), atol=1e-6)


def test_every_kept_piece_keeps_its_row(encoder, tmp_path):
    small = trim_vocabulary(encoder, KEPT_TEXT, tmp_path / "small")
    old, new = (e.model.get_input_embeddings().weight for e in (encoder, small))
    for piece, number in small.tokenizer.get_vocab().items():
        assert torch.equal(new[number], old[encoder.tokenizer.convert_tokens_to_ids(piece)])
    assert new.shape[0] == len(small.tokenizer) == small.model.config.vocab_size


def test_the_weights_in_memory_are_trimmed_not_those_on_disk(encoder, tmp_path):
    """A fine-tuned model must not lose its training."""
    with torch.no_grad():
        for parameter in encoder.model.parameters():
            parameter.mul_(1.5)
    small = trim_vocabulary(encoder, KEPT_TEXT, tmp_path / "small")
    np.testing.assert_allclose(vectors(small, KEPT_TEXT), vectors(encoder, KEPT_TEXT), atol=1e-6)


def test_the_original_is_not_changed(encoder, tmp_path):
    before, size = vectors(encoder, ["turn on φ"]), encoder.model.config.vocab_size
    trim_vocabulary(encoder, ["turn"], tmp_path / "small")
    assert encoder.model.config.vocab_size == size
    np.testing.assert_array_equal(vectors(encoder, ["turn on φ"]), before)


def test_special_tokens_are_kept_and_renumbered(encoder, tmp_path):
    small = trim_vocabulary(encoder, ["turn"], tmp_path / "small", keep_characters=False)
    assert small.tokenizer.special_tokens_map == encoder.tokenizer.special_tokens_map
    assert max(small.tokenizer.all_special_ids) < len(small.tokenizer)
    assert small.model.config.pad_token_id == small.tokenizer.pad_token_id
    ids = small.tokenizer("turn").input_ids
    assert small.tokenizer.convert_ids_to_tokens(ids) == encoder.tokenizer.convert_ids_to_tokens(
        encoder.tokenizer("turn").input_ids
    )
    mask = small.tokenizer.mask_token
    assert small.tokenizer.tokenize(f"turn {mask}") == encoder.tokenizer.tokenize(f"turn {mask}")


def test_characters_are_kept_in_the_scripts_of_the_text_only(encoder, tmp_path):
    small = trim_vocabulary(encoder, ["turn 灯"], tmp_path / "small")
    kept = {bare(p) for p in small.tokenizer.get_vocab()}
    assert {"w", "x"} <= kept
    assert not {"φ", "ω"} & kept
    strict = trim_vocabulary(encoder, ["turn 灯"], tmp_path / "strict", keep_characters=False)
    assert not {"w", "x"} & {bare(p) for p in strict.tokenizer.get_vocab()}


def test_special_tokens_do_not_count_as_latin_text(encoder, tmp_path):
    small = trim_vocabulary(encoder, ["灯"], tmp_path / "small")
    assert not {"w", "x"} & {bare(p) for p in small.tokenizer.get_vocab()}


def test_a_dropped_language_becomes_unknown(encoder, tmp_path):
    small = trim_vocabulary(encoder, KEPT_TEXT, tmp_path / "small")
    assert small.tokenizer.unk_token_id not in encoder.tokenizer("φω").input_ids
    assert small.tokenizer.unk_token_id in small.tokenizer("φω").input_ids


def test_trimming_needs_text_and_a_vocabulary_that_can_be_cut(encoder, tmp_path):
    with pytest.raises(ValueError, match="no text"):
        trim_vocabulary(encoder, [], tmp_path / "small")
    with pytest.raises(ValueError, match="type BPE"):
        piece_list(json.loads(Tokenizer(models.BPE()).to_str()))


def test_kept_pieces_are_sorted_and_hold_the_special_tokens():
    tokenizer = unigram()
    ids = kept_pieces(tokenizer, ["turn on", "turn"])
    assert ids == sorted(set(ids)) and set(tokenizer.all_special_ids) <= set(ids)
    assert [PIECES[i] for i in ids if i not in tokenizer.all_special_ids] == ["▁turn", "▁on"]


@pytest.mark.parametrize(("piece", "letters"), [("▁a", "a"), ("##a", "a"), ("▁", "▁"), ("##", "##"), ("ab", "ab")])
def test_bare_pieces(piece, letters):
    assert bare(piece) == letters
