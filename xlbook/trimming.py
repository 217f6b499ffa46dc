"""Throw away the part of a vocabulary that some languages never use, and leave everything else as it is.

A multilingual model is for the most part a table of word pieces. :func:`trim_vocabulary` keeps the rows that some text
needs. Kept text keeps its vectors exactly: its best segmentation is still possible, and only rivals are gone.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from pathlib import Path

import torch

from xlbook.checkpoints import Encoder, load, save
from xlbook.runtime import progress
from xlbook.scripts import script_block


def kept_pieces(tokenizer, texts: Iterable[str]) -> list[int]:
    """Return the sorted ids of the pieces that some texts need, special tokens included."""
    needed = set(tokenizer.all_special_ids)
    texts = list(texts)
    for start in progress(range(0, len(texts), 4096), label="tokenizing", unit="batch"):
        for encoding in tokenizer.backend_tokenizer.encode_batch(texts[start : start + 4096]):
            needed.update(encoding.ids)
    return sorted(needed)


def trim_vocabulary(encoder: Encoder, texts: Iterable[str], folder: Path, *, keep_characters: bool = True) -> Encoder:
    """Keep only the vocabulary that some texts need; every kept piece keeps its vector.

    Args:
        encoder: the model to trim, as it is in memory; it is not changed. Its tokenizer is Unigram or WordPiece.
        texts: text in the languages that must go on working.
        folder: where the trimmed model is saved.
        keep_characters: also keep every one-character piece of the scripts of ``texts``, so that unseen words are
            spelled out and do not become ``<unk>``.

    Returns:
        The trimmed model and tokenizer, loaded from ``folder``.

    Raises:
        ValueError: if the tokenizer is of another kind, or if there is no text.

    Reference: Abdaoui, Pradel and Sigel (2020), Load What You Need: Smaller Versions of Multilingual BERT, section 3.
    """
    from transformers import AutoModel

    document = json.loads(encoder.tokenizer.backend_tokenizer.to_str())
    pieces = piece_list(document)
    special = set(encoder.tokenizer.all_special_ids)
    keep = set(kept_pieces(encoder.tokenizer, texts))
    if keep == special:
        raise ValueError("trim_vocabulary() received no text; give text in the languages that must go on working.")
    if keep_characters:
        scripts = {script_block(c) for i in keep - special for c in bare(pieces[i])}
        keep |= {i for i, p in enumerate(pieces) if len(bare(p)) == 1 and script_block(bare(p)) in scripts}
    order = sorted(keep)
    config = copy.deepcopy(encoder.model.config)
    config.vocab_size = len(order)
    new_id = {old: new for new, old in enumerate(order)}
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(config, key, None) is not None:
            setattr(config, key, new_id[getattr(config, key)])
    model = AutoModel.from_config(config, add_pooling_layer=False)
    missing = model.load_state_dict(trimmed_state(encoder.model, order), strict=False).missing_keys
    assert not missing, missing
    save(Encoder(model, trimmed_tokenizer(encoder.tokenizer, document, order, new_id), Path(folder)))
    return load(str(folder))


def trimmed_state(model: torch.nn.Module, order: list[int]) -> dict[str, torch.Tensor]:
    """Return a model's weights with only some rows of the word embeddings, in the given order: (V, D) -> (kept, D)."""
    words = model.get_input_embeddings().weight
    name = next(n for n, p in model.named_parameters() if p is words)
    return {**model.state_dict(), name: words.data[torch.tensor(order)].clone()}


def piece_list(document: dict) -> list[str]:
    """Return the pieces of a tokenizer, given as its JSON document, in the order of their ids.

    Raises:
        ValueError: if it is neither Unigram nor WordPiece (the merges of BPE need every intermediate piece).
    """
    kind, vocabulary = document["model"]["type"], document["model"].get("vocab")
    if kind == "Unigram":
        return [piece for piece, _ in vocabulary]
    if kind == "WordPiece":
        return sorted(vocabulary, key=vocabulary.__getitem__)
    raise ValueError(f"The tokenizer is of type {kind}; only Unigram and WordPiece vocabularies can be trimmed.")


def bare(piece: str) -> str:
    """Return a piece without the marks of its place: ``▁`` before a word, ``##`` inside one.

    >>> bare("▁a"), bare("##a"), bare("▁")
    ('a', 'a', '▁')
    """
    return piece.removeprefix("##").strip("▁") or piece


def trimmed_tokenizer(tokenizer, document: dict, order: list[int], new_id: dict[int, int]):
    """Return the tokenizer with only the pieces in ``order``, all other settings unchanged."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    model, pieces = document["model"], piece_list(document)
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][i] for i in order]
        model["unk_id"] = new_id[model["unk_id"]]
    else:
        model["vocab"] = {pieces[i]: new_id[i] for i in order}
    document["added_tokens"] = [{**t, "id": new_id[t["id"]]} for t in document["added_tokens"] if t["id"] in new_id]
    brackets = document["post_processor"] or {}
    for token in brackets.get("special_tokens", {}).values():  # TemplateProcessing
        token["ids"] = [new_id[i] for i in token["ids"]]
    for side in {"sep", "cls"} & brackets.keys():  # BertProcessing, RobertaProcessing
        brackets[side] = [brackets[side][0], new_id[brackets[side][1]]]
    names = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(document)), model_max_length=tokenizer.model_max_length, **names
    )
