"""A tiny random encoder with a tokenizer of its own, for tests that train, and commands in it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from xlbook.checkpoints import Encoder
from xlbook.records import Command, Span

PIECES = "▁query: ▁turn ▁on ▁off ▁the ▁kit chen ▁light ▁in ▁lasagne timer ▁stop ▁打开 厨房 的 灯 ▁hot el ▁and".split()
LETTERS = sorted(set("".join(PIECES)) | set("abcdefghijklmnopqrstuvwxyz打开关灯厨房的,.!?"))
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Unigram with word starts marked, as in XLM-R: whole pieces are likelier than their letters."""
    vocabulary = [(s, 0.0) for s in SPECIALS] + [(p, -1.0) for p in PIECES] + [(c, -9.0) for c in LETTERS]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def word_level(pieces: Sequence[str], **options) -> PreTrainedTokenizerFast:
    """Return a tokenizer that takes each word between spaces as one of these pieces, with ``<s>`` and ``</s>``."""
    backend = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    names = {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    tokens = {f"{name}_token": piece for name, piece in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **tokens, **options)


def make_body() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(SPECIALS) + len(PIECES) + len(LETTERS), hidden_size=16, num_hidden_layers=2,
                        num_attention_heads=2, intermediate_size=32, max_position_embeddings=200, initializer_range=0.3,
                        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                        pad_token_id=1)  # fmt: skip
    return BertModel(config, add_pooling_layer=False).eval()


def make_encoder() -> Encoder:
    """Return the same tiny encoder every time."""
    return Encoder(make_body(), make_tokenizer(), Path("nowhere"))


def command(marked: str, intent: str = "turn_on") -> Command:
    """A command from text with ``[kitchen](area)`` markup."""
    text, spans = "", []
    for part in marked.split("["):
        if "](" in part:
            slot, rest = part.split("](", 1)
            name, rest = rest.split(")", 1)
            spans.append(Span(len(text), len(text) + len(slot), name))
            part = slot + rest
        text += part
    return Command(text, intent, "en", text, tuple(spans))
