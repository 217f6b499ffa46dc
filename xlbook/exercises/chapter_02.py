"""The exercises of chapter 02: attention with a mask, heads, counting, the gradient at the logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from xlbook.encoder import Sizes, TransformerEncoder, parameter_counts
from xlbook.exercises import Wrong


def compare(received: torch.Tensor, mistakes: Mapping[str, tuple[torch.Tensor, str]]) -> None:
    """Raise the misconception whose result was received."""
    for name, (result, hint) in mistakes.items():
        if received.shape == result.shape and torch.allclose(received, result, atol=1e-6):
            raise Wrong(name, hint)


def exercise_1(answer) -> None:
    """A function (query, key, value, mask) -> mixed values, for one head: (B, L, K) each, mask (B, L)."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 9, generator=generator, dtype=torch.float64) * 2  # (B, L, K) each
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    received = answer(query, key, value, mask)
    if not isinstance(received, torch.Tensor) or received.shape != value.shape:
        raise Wrong("wrong-shape", "Return one tensor of the shape of `value`: weights @ value.")
    scores, hidden = query @ key.transpose(1, 2), mask == 0  # (B, L, L), (B, L)
    lowest, scaled = torch.finfo(scores.dtype).min, scores / 3
    over_keys = hidden[:, None, :]  # (B, 1, L)
    right = scaled.masked_fill(over_keys, lowest).softmax(-1) @ value
    if received.isnan().any():
        raise Wrong("rows-without-keys", "There are NaNs. Rows of padding have lost all keys: hide keys, not queries.")
    mistakes = {
        "no-scale": (scores.masked_fill(over_keys, lowest), "The scores are too large. Divide by the root of K."),
        "scaled-by-size": ((scores / 9).masked_fill(over_keys, lowest), "You divide by K. Its square root is enough."),
        "mask-ignored": (scaled, "Real tokens look at padding. Use the mask before the softmax."),
        "mask-on-the-queries": (
            scaled.masked_fill(hidden[:, :, None], lowest),
            "You hide rows, the tokens that look. Hide columns: the tokens that are looked at.",
        ),
        "mask-multiplied": (
            scaled * ~over_keys,
            "A score of 0 is not a weight of 0, because exp(0) is 1. Give padding a very low score.",
        ),
    }
    compare(received, {name: (s.softmax(-1) @ value, hint) for name, (s, hint) in mistakes.items()})
    late = (scaled.softmax(-1) * ~over_keys) @ value
    across = scaled.masked_fill(over_keys, lowest).softmax(1) @ value
    late_hint = "The weights of a row no longer sum to 1: you mask after the softmax. Mask before it."
    compare(received, {"mask-after-softmax": (late, late_hint)})
    compare(received, {"softmax-over-queries": (across, "Each row must sum to 1: softmax over the last axis.")})
    if not torch.allclose(received, right):
        raise Wrong("other", "Not yet the same as scaled_dot_product_attention. Check scale, mask and softmax in turn.")


def exercise_2(answer) -> None:
    """A function (x, heads) -> (B, H, L, K)."""
    x = torch.arange(2 * 3 * 8.0).reshape(2, 3, 8)  # (B, L, D)
    received = answer(x, 2)
    if not isinstance(received, torch.Tensor):
        raise Wrong("wrong-shape", "Return a tensor of shape (B, H, L, K).")
    parts = x.reshape(2, 3, 2, 4)  # (B, L, H, K)
    mistakes = {
        "not-transposed": (parts, "The axes are (B, L, H, K). Swap tokens and heads."),
        "heads-before-batch": (parts.permute(2, 0, 1, 3), "The batch comes first: (B, H, L, K)."),
        "view-mixes-tokens": (
            x.reshape(2, 2, 3, 4),
            "The shape is right and the content is not: a head now holds numbers of several tokens. "
            "Cut the last axis in two first, then swap axes.",
        ),
        "interleaved": (
            x.reshape(2, 3, 4, 2).permute(0, 3, 1, 2),
            "A head has every second number. Its numbers are neighbours: cut D into (H, K), not (K, H).",
        ),
    }
    compare(received, mistakes)
    if received.shape != (2, 2, 3, 4):
        raise Wrong("wrong-shape", f"The shape should be (B, H, L, K) = (2, 2, 3, 4), not {tuple(received.shape)}.")
    if not torch.equal(received, parts.transpose(1, 2)):
        raise Wrong("other", "Token l of head h should hold the numbers h * K to (h + 1) * K of token l.")


def exercise_3(answer) -> None:
    """A function (sizes) -> number of parameters."""
    sizes = Sizes(100, 24, 3, 4, 50, 20, 5)
    received, counts = answer(sizes), parameter_counts(sizes)
    total, d, n = sum(counts.values()), sizes.hidden_size, sizes.num_hidden_layers
    mistakes = {
        total - n * (4 * d + 50 + d): ("no-biases", "The matrices have biases: one number for each output."),
        total - counts["layer norms"]: ("no-layer-norms", "Each LayerNorm has a gain and a bias of D numbers."),
        total - n * 2 * d - d: ("gain-or-bias", "A LayerNorm has a gain *and* a bias: 2 * D numbers."),
        total - 2 * d: ("no-embedding-norm", "There is one more LayerNorm: after the embeddings."),
        total + 3 * counts["attention"]: ("heads-multiplied", "Heads share D among them. More heads, same matrices."),
        total - counts["positions and segments"]: ("only-tokens-embedded", "Positions and segments have tables, too."),
        total - n * (d * d + d): ("no-output-matrix", "Attention has four matrices: query, key, value and output."),
    }
    if received in mistakes:
        raise Wrong(*mistakes[received])
    if received != total:
        raise Wrong("other", f"For {sizes} there are {total:,} parameters; received {received}. Compare part by part.")
    other = Sizes(7, 12, 1, 2, 20, 9, 1)
    if answer(other) != sum(p.numel() for p in TransformerEncoder(other).parameters()):
        raise Wrong(
            "constants-assumed", "Right for one model only. Take all numbers from `sizes`, also F and segments."
        )


def exercise_4(answer) -> None:
    """A function (logits, targets) -> the gradient of the mean cross-entropy at the logits; -100 counts for nothing."""
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([2, -100, 0, 3, -100])
    loss = torch.nn.functional.cross_entropy(logits, targets)
    (right,) = torch.autograd.grad(loss, logits)
    received = answer(logits.detach(), targets)
    if not isinstance(received, torch.Tensor) or received.shape != logits.shape:
        raise Wrong("wrong-shape", "Return one number for each logit: a tensor of the shape of `logits`.")
    kept, given = (targets >= 0)[:, None], logits.detach()  # (N, 1), (N, C)
    p, truth = given.softmax(-1), torch.nn.functional.one_hot(targets.clamp(min=0), 4) * kept  # (N, C) each
    compare(
        received,
        {
            "wrong-sign": (-right, "That is the downhill direction. The gradient points uphill: p - y."),
            "not-averaged": (right * 3, "The loss is a mean. Divide by the number of targets that count."),
            "averaged-over-all": (right * 3 / 5, "You divide by all rows. Rows with -100 do not count."),
            "no-softmax": ((given - truth) * kept / 3, "You subtract from the logits. Softmax makes p of them first."),
            "at-the-probabilities": (-truth / p / 3, "That is the gradient at p. Go on through the softmax."),
        },
    )
    if received[~kept[:, 0]].abs().max() > 0:
        raise Wrong("ignored-rows-learn", "Rows with the target -100 must have a gradient of zero.")
    if not torch.allclose(received, right):
        raise Wrong("other", "Not the gradient that autograd finds. Check p, y and the division in turn.")
