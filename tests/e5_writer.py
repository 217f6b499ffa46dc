"""An independent writer of tiny ``E5S1`` files, from the format's documentation, and a tiny model to put into them."""

import struct
from pathlib import Path

import numpy as np

from xlbook.checkpoints import Encoder, convert_e5, load

HIDDEN, LAYERS, HEADS, FEED_FORWARD, POSITIONS, TYPES = 64, 2, 4, 96, 64, 2
WORDS = ["▁turn", "▁on", "▁off", "▁the", "▁light", "▁tur", "n", "ing", "▁lights", "s", "▁kitchen", "▁開", "燈", "▁ligh"]
LETTERS = list("▁turnoflighkcedsp") + ["開", "關"]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


def vocabulary(seed: int = 0) -> list[tuple[str, float]]:
    """Return pieces with log probabilities: specials, words, letters, and ``<mask>`` at the end, as in XLM-R."""
    rng = np.random.default_rng(seed)
    pieces = [(s, 0.0) for s in SPECIALS]
    pieces += [(w, float(np.float32(rng.uniform(-6, -3)))) for w in WORDS]
    pieces += [(c, float(np.float32(rng.uniform(-9, -6)))) for c in dict.fromkeys(LETTERS) if c not in WORDS]
    return [*pieces, ("<mask>", 0.0)]


def weights(pieces: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random weights under the file's names, matrices as (outputs, inputs)."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(0, 0.05, shape).astype(np.float32)

    found = {"emb.word": draw(pieces, HIDDEN), "emb.pos": draw(POSITIONS, HIDDEN), "emb.type": draw(TYPES, HIDDEN)}
    found |= {"emb.ln.w": 1 + draw(HIDDEN), "emb.ln.b": draw(HIDDEN)}
    shapes = {part: (HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")}
    shapes |= {"fi": (FEED_FORWARD, HIDDEN), "fo": (HIDDEN, FEED_FORWARD)}
    for layer in range(LAYERS):
        for part, shape in shapes.items():
            found |= {f"l{layer}.{part}.w": draw(*shape), f"l{layer}.{part}.b": draw(shape[0])}
        for part in ("aln", "oln"):
            found |= {f"l{layer}.{part}.w": 1 + draw(HIDDEN), f"l{layer}.{part}.b": draw(HIDDEN)}
    return found


def q4(matrix: np.ndarray) -> bytes:
    """Quantize to Q4_0, one block of 32 weights after the other, as llama.cpp does: scale = signed extreme / -8."""
    out = b""
    for block in matrix.reshape(-1, 32):
        extreme = block[np.argmax(np.abs(block))]
        scale = np.float16(extreme / -8)
        nibbles = [int(min(15, max(0, np.floor(w / np.float32(scale) + 8.5)))) if scale else 8 for w in block]
        out += struct.pack("<e", scale) + bytes(nibbles[j] | nibbles[j + 16] << 4 for j in range(16))
    return out


def is_quantized(name: str) -> bool:
    return name == "emb.word" or name.endswith((".q.w", ".k.w", ".v.w", ".ao.w", ".fi.w", ".fo.w"))


def e5_file(pieces, tensors, *, normalization=(("\u00a0", " "), ("\uff21", "A")), block: int = 32) -> bytes:
    """Return the bytes of an ``E5S1`` file."""
    blob = [piece.encode() for piece, _ in pieces]
    offsets = np.cumsum([0, *map(len, blob)])
    head = struct.pack("<4sI", b"E5S1", 1)
    head += struct.pack("<7i", HIDDEN, LAYERS, HEADS, FEED_FORWARD, len(pieces), POSITIONS, TYPES)
    head += struct.pack("<fi", 1e-12, block)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, len(b"".join(blob)))
    head += offsets.astype("<u4").tobytes() + np.array([s for _, s in pieces], "<f4").tobytes() + b"".join(blob)
    rules = b"".join(struct.pack(f"<IB{len(new)}I", ord(old), len(new), *map(ord, new)) for old, new in normalization)
    head += struct.pack("<iI", len(normalization), len(rules)) + rules + struct.pack("<i", len(tensors))
    bodies = {n: q4(t) if is_quantized(n) else t.astype("<f4").tobytes() for n, t in tensors.items()}
    at = len(head) + sum(2 + len(n) + 1 + 4 + 8 + 8 for n in tensors)
    for name, tensor in tensors.items():
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", int(is_quantized(name)), tensor.size, at, len(bodies[name]))
        at += len(bodies[name])
    return head + b"".join(bodies.values())


def tiny_encoder(folder: Path) -> Encoder:
    """Return a random encoder of two layers that went through a file and its conversion in a folder."""
    pieces = vocabulary()
    (folder / "tiny.bin").write_bytes(e5_file(pieces, weights(len(pieces))))
    convert_e5(folder / "tiny.bin", folder / "model")
    return load(str(folder / "model"))
