"""The Transformer encoder of BERT and XLM-R in one file: embeddings, attention, feed-forward, LayerNorm, residuals.

It computes what ``transformers`` computes, from the same weights, and is called in the same way. Shapes: B sentences, L
tokens, D hidden size, H heads, K = D / H, F feed-forward size. Reference: Vaswani et al. (2017); Devlin et al. (2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import nn


@dataclass(frozen=True)
class Sizes:
    """The shape of an encoder; the fields are named as in the ``config.json`` of a checkpoint."""

    vocab_size: int
    """V: pieces in the vocabulary, rows of the token embedding."""
    hidden_size: int = 384
    """D: numbers in the vector of a token."""
    num_hidden_layers: int = 12
    """How often attention and feed-forward follow each other."""
    num_attention_heads: int = 12
    """H: attention patterns a layer; D is divided among them."""
    intermediate_size: int = 1536
    """F: numbers between the two matrices of a feed-forward."""
    max_position_embeddings: int = 512
    """Longest sequence, in tokens."""
    type_vocab_size: int = 2
    """Kinds of segments: first and second sentence."""
    layer_norm_eps: float = 1e-12
    """Added to the variance, so that nothing is divided by zero."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size={self.hidden_size} is no multiple of {self.num_attention_heads} heads.")


class Output(NamedTuple):
    """What the encoder returns, named as in ``transformers``."""

    last_hidden_state: torch.Tensor
    """One vector for each token after the last layer, shape (B, L, D)."""
    hidden_states: tuple[torch.Tensor, ...] | None = None
    """The vectors before the first layer and after each, each of shape (B, L, D)."""
    attentions: tuple[torch.Tensor, ...] | None = None
    """The attention weights of each layer, each of shape (B, H, L, L); rows sum to 1."""


def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None, drop: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix the values of all tokens, weighted by how well their keys fit the query (Vaswani et al., 2017, equation 1).

    Args:
        query: what each token looks for, shape (B, H, L, K).
        key: what each token offers to be found by, shape (B, H, L, K).
        value: what each token hands over, shape (B, H, L, K).
        mask: 1 for tokens and 0 for padding, shape (B, L); ``None`` if nothing is padding.
        drop: share of the weights that is dropped.

    Returns:
        The mixed values, shape (B, H, L, K), and the weights, shape (B, H, L, L): row i says where token i looks.

    >>> attention(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 2, 4))[1].tolist()
    [[[[0.5, 0.5], [0.5, 0.5]]]]
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, H, L, L)
    if mask is not None:
        padding = mask[:, None, None, :] == 0  # (B, 1, 1, L): these keys are hidden, from all heads and all queries
        scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1)  # (B, H, L, L), over the keys
    return nn.functional.dropout(weights, drop, training=drop > 0) @ value, weights


def gelu(x: torch.Tensor) -> torch.Tensor:
    """Multiply each number by the chance that a standard normal number is below it (Hendrycks and Gimpel, 2016).

    >>> gelu(torch.tensor([-3.0, 0.0, 3.0]))
    tensor([-0.0040,  0.0000,  2.9960])
    """
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


class LayerNorm(nn.Module):
    """Give each vector mean 0 and variance 1, then stretch and shift each of its D dimensions by learned numbers.

    Reference: Ba et al. (2016), Layer Normalization, section 3.
    """

    def __init__(self, size: int, epsilon: float):
        super().__init__()
        self.epsilon = epsilon
        self.gain = nn.Parameter(torch.ones(size))  # (D,)
        self.bias = nn.Parameter(torch.zeros(size))  # (D,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize over the last dimension: (B, L, D) -> (B, L, D)."""
        centered = x - x.mean(dim=-1, keepdim=True)  # the mean has shape (B, L, 1)
        variance = centered.pow(2).mean(dim=-1, keepdim=True)  # (B, L, 1)
        return self.gain * centered / torch.sqrt(variance + self.epsilon) + self.bias


class MultiHeadAttention(nn.Module):
    """H attentions side by side, each on its own K = D / H numbers; ``dropout`` is the share of weights dropped."""

    def __init__(self, sizes: Sizes, dropout: float = 0.1):
        super().__init__()
        self.heads, self.drop, size = sizes.num_attention_heads, dropout, sizes.hidden_size
        self.query, self.key, self.value, self.output = (nn.Linear(size, size) for _ in range(4))

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend: (B, L, D) -> (B, L, D), and the weights (B, H, L, L)."""
        query, key, value = (self.split(part(states)) for part in (self.query, self.key, self.value))
        mixed, weights = attention(query, key, value, mask, self.drop if self.training else 0.0)
        return self.output(self.merge(mixed)), weights

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """Cut each vector into one part a head: (B, L, D) -> (B, H, L, K)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, L, D) -> (B, L, H, K) -> (B, H, L, K)

    def merge(self, x: torch.Tensor) -> torch.Tensor:
        """Put the parts of each token side by side again: (B, H, L, K) -> (B, L, D)."""
        return x.transpose(1, 2).flatten(-2)  # (B, H, L, K) -> (B, L, H, K) -> (B, L, D)


class FeedForward(nn.Module):
    """Two matrices with a GELU between them, each with a bias; every token on its own."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.up = nn.Linear(sizes.hidden_size, sizes.intermediate_size)
        self.down = nn.Linear(sizes.intermediate_size, sizes.hidden_size)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Widen and narrow again: (B, L, D) -> (B, L, F) -> (B, L, D)."""
        return self.down(gelu(self.up(states)))


class Layer(nn.Module):
    """Attention, then feed-forward; around each a residual, and a LayerNorm *after* the sum (post-norm, as in BERT)."""

    def __init__(self, sizes: Sizes, dropout: float = 0.1):
        super().__init__()
        self.attention = MultiHeadAttention(sizes, dropout)
        self.attention_norm = LayerNorm(sizes.hidden_size, sizes.layer_norm_eps)
        self.feed_forward = FeedForward(sizes)
        self.feed_forward_norm = LayerNorm(sizes.hidden_size, sizes.layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """One layer: (B, L, D) -> (B, L, D), and the attention weights (B, H, L, L)."""
        attended, weights = self.attention(states, mask)
        states = self.attention_norm(states + self.dropout(attended))
        transformed = self.feed_forward(states)
        return self.feed_forward_norm(states + self.dropout(transformed)), weights


class Embeddings(nn.Module):
    """What a token is, plus where it stands, plus which segment it belongs to; then LayerNorm and dropout."""

    def __init__(self, sizes: Sizes, dropout: float = 0.1):
        super().__init__()
        self.token = nn.Embedding(sizes.vocab_size, sizes.hidden_size)
        self.position = nn.Embedding(sizes.max_position_embeddings, sizes.hidden_size)
        self.segment = nn.Embedding(sizes.type_vocab_size, sizes.hidden_size)
        self.norm = LayerNorm(sizes.hidden_size, sizes.layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: torch.Tensor, segments: torch.Tensor | None = None) -> torch.Tensor:
        """Look up and add: ids and segments (B, L) -> (B, L, D)."""
        positions = torch.arange(ids.shape[1], device=ids.device)  # (L,): 0, 1, 2, …
        segments = torch.zeros_like(ids) if segments is None else segments  # (B, L)
        total = self.token(ids) + self.position(positions) + self.segment(segments)  # (B, L, D)
        return self.dropout(self.norm(total))


class TransformerEncoder(nn.Module):
    """Embeddings and a stack of layers; ``dropout`` is the share of numbers dropped in training."""

    def __init__(self, sizes: Sizes, dropout: float = 0.1):
        super().__init__()
        self.config = sizes
        self.embeddings = Embeddings(sizes, dropout)
        self.layers = nn.ModuleList(Layer(sizes, dropout) for _ in range(sizes.num_hidden_layers))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)  # as in BERT
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> Output:
        """Encode sentences: ids, mask and segments (B, L) -> vectors (B, L, D) and, if wanted, what is in between.

        Raises:
            ValueError: if a sequence is too long, or the mask has another shape than the ids.
        """
        shape, longest = tuple(input_ids.shape), self.config.max_position_embeddings
        if shape[1] > longest:
            raise ValueError(f"{shape[1]} tokens, at most {longest}; call the tokenizer with truncation=True.")
        if attention_mask is not None and tuple(attention_mask.shape) != shape:
            raise ValueError(f"The mask has shape {tuple(attention_mask.shape)}; it needs that of the ids, {shape}.")
        states, attentions = [self.embeddings(input_ids, token_type_ids)], []
        for layer in self.layers:
            after, weights = layer(states[-1], attention_mask)  # (B, L, D), (B, H, L, L)
            states.append(after)
            attentions += [weights] if output_attentions else []
        kept = tuple(states) if output_hidden_states else None
        return Output(states[-1], kept, tuple(attentions) if output_attentions else None)


RENAMED = {
    "word_embeddings": "token",
    "position_embeddings": "position",
    "token_type_embeddings": "segment",
    "embeddings.LayerNorm": "embeddings.norm",
    "encoder.layer": "layers",
    "attention.self": "attention",
    "attention.output.LayerNorm": "attention_norm",
    "attention.output.dense": "attention.output",
    "intermediate.dense": "feed_forward.up",
    "output.LayerNorm": "feed_forward_norm",
    "output.dense": "feed_forward.down",
    "norm.weight": "norm.gain",
}
"""Names of weights in ``transformers`` -> names here, replaced in this order."""


def renamed(name: str) -> str:
    """Return our name of a weight.

    >>> renamed("encoder.layer.3.output.LayerNorm.bias")
    'layers.3.feed_forward_norm.bias'
    """
    for theirs, ours in RENAMED.items():
        name = name.replace(theirs, ours)
    return name


def from_transformers(model: nn.Module) -> TransformerEncoder:
    """Return our encoder with a copy of the weights of a ``BertModel`` or ``XLMRobertaModel``, in evaluation mode.

    XLM-R counts positions from the id of padding plus one; the rows of its table before that are left out here.

    Raises:
        ValueError: for another architecture, or another activation than the exact GELU.
    """
    config = model.config
    if (config.model_type, config.hidden_act) not in (("bert", "gelu"), ("xlm-roberta", "gelu")):
        raise ValueError(f"Received {config.model_type}, {config.hidden_act}; give a bert or xlm-roberta with gelu.")
    first = config.pad_token_id + 1 if config.model_type == "xlm-roberta" else 0
    sizes = {f.name: getattr(config, f.name) for f in fields(Sizes)}
    sizes["max_position_embeddings"] -= first
    state = {renamed(name): tensor for name, tensor in model.state_dict().items() if not name.startswith("pooler.")}
    state["embeddings.position.weight"] = state["embeddings.position.weight"][first:]
    ours = TransformerEncoder(Sizes(**sizes), config.hidden_dropout_prob).to(next(model.parameters()))
    ours.load_state_dict(state)
    return ours.eval()


def parameter_counts(sizes: Sizes) -> dict[str, int]:
    """Return the parameters of each part; a matrix from m to n numbers has m * n + n of them with its bias."""
    d, f, n = sizes.hidden_size, sizes.intermediate_size, sizes.num_hidden_layers
    return {
        "token embeddings": sizes.vocab_size * d,
        "positions and segments": (sizes.max_position_embeddings + sizes.type_vocab_size) * d,
        "attention": n * 4 * (d * d + d),
        "feed-forward": n * (d * f + f + f * d + d),
        "layer norms": (1 + 2 * n) * 2 * d,
    }


def flops(sizes: Sizes, tokens: int) -> dict[str, int]:
    """Return the operations of all matrix products for one sequence; a multiplication and an addition count as two."""
    d, f, n = sizes.hidden_size, sizes.intermediate_size, sizes.num_hidden_layers
    linear = {"projections": n * 8 * tokens * d * d, "feed-forward": n * 4 * tokens * d * f}
    return linear | {"scores and mixing": n * 4 * tokens**2 * d}


def saved_numbers(sizes: Sizes, tokens: int, *, dropout: bool = False) -> dict[str, int]:
    """Return how many numbers the layers keep for the backward pass of one sequence, by how they grow with its length.

    A layer keeps, for each token, 10 vectors of D numbers, 4 of F, and 2 numbers for the LayerNorms; and for each
    head, L * L weights. Dropout adds 2 vectors of D numbers, and twice the weights again.
    """
    d, f, n = sizes.hidden_size, sizes.intermediate_size, sizes.num_hidden_layers
    linear = n * tokens * ((12 if dropout else 10) * d + 4 * f + 2)
    return {"linear": linear, "quadratic": n * (3 if dropout else 1) * sizes.num_attention_heads * tokens**2}
