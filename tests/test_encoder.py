"""Our encoder against four independent truths: ``transformers``, ``torch.nn``, equations, and what PyTorch counts."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from xlbook import encoder
from xlbook.encoder import Layer, LayerNorm, MultiHeadAttention, Sizes, TransformerEncoder, from_transformers, renamed

TINY = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}
SIZES = Sizes(**TINY)
SCRIPTS = "en zh ru ko ar hi el he th ka".split()
"""One language for each of ten scripts."""


pytestmark = pytest.mark.usefixtures("one_thread")


def randomized(module: nn.Module) -> nn.Module:
    """Make every parameter random, also gains and biases, so that one that is left out or swapped shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.double().eval()


def bert(**changes) -> BertModel:
    return randomized(BertModel(BertConfig(**(TINY | changes), pad_token_id=1), add_pooling_layer=False))


def batch() -> dict[str, torch.Tensor]:
    """Three sequences of different length, padded, with two segments."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, 40, (3, 9), generator=generator)
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] * 2 + [0] * 7])
    segments = torch.tensor([[0] * 4 + [1] * 5, [0] * 3 + [1] * 6, [0] * 9])
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask, "token_type_ids": segments}


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-10) -> bool:
    return torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def random_states(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


# --- against transformers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_every_layer_equals_transformers(implementation):
    theirs = bert(attn_implementation=implementation)
    ours = from_transformers(theirs)
    expected = theirs(**batch(), output_hidden_states=True)
    got = ours(**batch(), output_hidden_states=True)
    assert len(got.hidden_states) == SIZES.num_hidden_layers + 1
    for layer, (a, b) in enumerate(zip(got.hidden_states, expected.hidden_states, strict=True)):
        assert close(a, b), f"layer {layer}"
    assert close(got.last_hidden_state, expected.last_hidden_state)


def test_attention_weights_equal_transformers():
    theirs = bert(attn_implementation="eager")
    expected = theirs(**batch(), output_attentions=True).attentions
    got = from_transformers(theirs)(**batch(), output_attentions=True).attentions
    assert all(close(a, b) for a, b in zip(got, expected, strict=True))


def test_inputs_have_the_same_defaults():
    theirs = bert()
    ours, ids = from_transformers(theirs), batch()["input_ids"]
    output = ours(ids)
    assert close(output.last_hidden_state, theirs(ids).last_hidden_state)
    assert output.hidden_states is None and output.attentions is None


def test_gradients_of_all_weights_equal_transformers():
    theirs = bert()
    ours, weights = from_transformers(theirs), random_states(3, 9, 24) * batch()["attention_mask"].unsqueeze(-1)
    for model in (theirs, ours):
        (model(**batch()).last_hidden_state * weights).sum().backward()
    got = dict(ours.named_parameters())
    expected = {renamed(name): p.grad for name, p in theirs.named_parameters()}
    assert set(got) == set(expected)
    for name, gradient in expected.items():
        assert close(got[name].grad, gradient), name
    assert all(got[n].grad.abs().max() > 1e-6 for n in got if not n.endswith("key.bias"))


def test_xlm_roberta_is_loaded_with_its_positions():
    config = XLMRobertaConfig(**(TINY | {"max_position_embeddings": 22, "type_vocab_size": 1}), pad_token_id=1)
    theirs = randomized(XLMRobertaModel(config))  # with a pooling layer, which is left out
    ours, given = from_transformers(theirs), batch() | {"token_type_ids": None}
    assert ours.config.max_position_embeddings == 20
    real = given["attention_mask"] == 1  # at padding it gives all the same position, which we do not
    assert close(ours(**given).last_hidden_state[real], theirs(**given).last_hidden_state[real])


def test_dropout_is_taken_over_and_off():
    ours = from_transformers(bert(hidden_dropout_prob=0.3))
    assert not ours.training and ours.layers[0].dropout.p == 0.3


@pytest.mark.parametrize("changes", [{"hidden_act": "gelu_new"}, {"hidden_act": "relu"}])
def test_another_activation_is_refused(changes):
    with pytest.raises(ValueError, match=changes["hidden_act"]):
        from_transformers(bert(**changes))


@pytest.fixture(scope="module")
def real():
    """The course's encoder, and the same with our code."""
    from xlbook import checkpoints

    loaded = checkpoints.load("multilingual-e5-small")
    return loaded, from_transformers(loaded.model)


@pytest.mark.sources("multilingual-e5-small", "commands")
def test_the_real_encoder_in_ten_scripts(real):
    from xlbook import corpora
    from xlbook.languages import language

    loaded, ours = real
    texts = [corpora.commands(code, per_template=1)[0].text for code in SCRIPTS]
    assert len({language(code).script for code in SCRIPTS}) == 10
    given = loaded.tokenizer(texts, padding=True, return_tensors="pt")
    assert (given["attention_mask"] == 0).any()
    weights = torch.randn(*given["input_ids"].shape, 384, generator=torch.Generator().manual_seed(0))
    weights *= given["attention_mask"].unsqueeze(-1) / given["attention_mask"].sum()
    states = []
    for model in (loaded.model, ours):
        model.zero_grad()
        output = model(**given, output_hidden_states=True)
        states.append(output.hidden_states)
        (output.last_hidden_state * weights).sum().backward()
    for layer, (theirs, got) in enumerate(zip(*states, strict=True)):
        relative = (got - theirs).norm(dim=-1) / theirs.norm(dim=-1)  # (B, L)
        assert relative.max() < 1e-5, f"layer {layer}"
    assert close(got, theirs, 1e-5)
    got = dict(ours.named_parameters())
    for name, parameter in loaded.model.named_parameters():
        assert close(got[renamed(name)].grad, parameter.grad, 1e-5), name
        parameter.grad = got[renamed(name)].grad = None


# --- against torch.nn -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_scaled_dot_product_attention(masked):
    query, key, value = random_states(3, 3, 4, 9, 6)
    mask = batch()["attention_mask"] if masked else None
    visible = mask[:, None, None, :].bool() if masked else None
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    mixed, weights = encoder.attention(query, key, value, mask)
    assert close(mixed, expected)
    assert close(weights.sum(-1), torch.ones(3, 4, 9, dtype=torch.float64))
    if masked:
        assert weights.masked_select(mask[:, None, None, :] == 0).abs().max() == 0


def test_a_row_of_padding_only_gives_no_nan():
    states = random_states(1, 2, 3, 4)
    assert encoder.attention(states, states, states, torch.zeros(1, 3))[0].isfinite().all()


def test_heads_equal_multihead_attention():
    ours = randomized(MultiHeadAttention(SIZES))
    theirs = nn.MultiheadAttention(24, 4, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in (ours.query, ours.key, ours.value)]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in (ours.query, ours.key, ours.value)]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    states, mask = random_states(3, 9, 24), batch()["attention_mask"]
    expected, weights = theirs(states, states, states, key_padding_mask=mask == 0, average_attn_weights=False)
    got = ours(states, mask)
    assert close(got[0], expected) and close(got[1], weights)


def test_splitting_and_merging_undo_each_other():
    block, states = MultiHeadAttention(SIZES), torch.arange(48.0).reshape(1, 2, 24)
    parts = block.split(states)
    assert parts.shape == (1, 4, 2, 6)
    assert parts[0, 1, 0].tolist() == [6, 7, 8, 9, 10, 11]  # the second head has the second six numbers of a token
    assert torch.equal(block.merge(parts), states)


def test_gelu_is_the_exact_one():
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    assert close(encoder.gelu(x), functional.gelu(x))
    assert not close(encoder.gelu(x), functional.gelu(x, approximate="tanh"), 1e-5)


def test_layer_norm_has_gain_and_bias():
    norm, x = randomized(LayerNorm(24, 1e-12)), random_states(2, 5, 24) * 3 + 1
    assert close(norm(x), functional.layer_norm(x, (24,), norm.gain, norm.bias, 1e-12))
    assert norm(torch.ones(1, 24, dtype=torch.float64)).isfinite().all()  # no variance at all


def test_a_layer_equals_torch_with_the_norm_after_the_sum():
    ours = randomized(Layer(SIZES))
    theirs = nn.TransformerEncoderLayer(24, 4, 32, activation="gelu", layer_norm_eps=1e-12, batch_first=True,
                                        norm_first=False, dtype=torch.float64).eval()  # fmt: skip
    attention, forward = ours.attention, ours.feed_forward
    projections = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        for norm, own in ((theirs.norm1, ours.attention_norm), (theirs.norm2, ours.feed_forward_norm)):
            norm.weight.copy_(own.gain)
            norm.bias.copy_(own.bias)
    theirs.self_attn.out_proj.load_state_dict(attention.output.state_dict())
    theirs.linear1.load_state_dict(forward.up.state_dict())
    theirs.linear2.load_state_dict(forward.down.state_dict())
    states, mask = random_states(3, 9, 24), batch()["attention_mask"]
    real = mask == 1
    assert close(ours(states, mask)[0][real], theirs(states, src_key_padding_mask=mask == 0)[real])


# --- properties -------------------------------------------------------------------------------------------------------


def test_padding_changes_nothing():
    ours, given = from_transformers(bert()), batch()
    together = ours(**given).last_hidden_state
    for row, length in enumerate((9, 5, 2)):
        alone = ours(
            given["input_ids"][row : row + 1, :length], token_type_ids=given["token_type_ids"][row : row + 1, :length]
        )
        assert close(alone.last_hidden_state[0], together[row, :length])


def test_no_gradient_reaches_padding():
    ours, given = from_transformers(bert()), batch()
    (ours(**given).last_hidden_state * given["attention_mask"].unsqueeze(-1)).sum().backward()
    rows = ours.embeddings.token.weight.grad.abs().sum(-1)
    assert rows[1] == 0 and rows[given["input_ids"][0]].min() > 0


def test_the_order_of_tokens_matters_only_through_positions():
    ours, ids = from_transformers(bert()), torch.tensor([[5, 6, 7, 8]])
    turned = ids.flip(1)
    assert not close(ours(ids).last_hidden_state.flip(1), ours(turned).last_hidden_state, 1e-3)
    nn.init.zeros_(ours.embeddings.position.weight)
    assert close(ours(ids).last_hidden_state.flip(1), ours(turned).last_hidden_state)


def test_dropout_sits_in_three_places():
    layer, states = randomized(Layer(SIZES, 1.0)).train(), random_states(2, 5, 24)
    assert close(layer(states)[0], layer.feed_forward_norm(layer.attention_norm(states)))  # only residuals are left
    assert encoder.Embeddings(SIZES, 1.0).train()(torch.zeros(1, 3, dtype=torch.int64)).abs().max() == 0
    heads = randomized(MultiHeadAttention(SIZES, 1.0)).train()
    assert close(heads(states)[0], heads.output.bias.expand(2, 5, 24))  # all weights are dropped
    assert not close(heads.eval()(states)[0], heads.output.bias.expand(2, 5, 24), 1e-3)


def test_dropped_weights_are_right_on_average():
    value = random_states(1, 1, 3, 4)
    many = [states.expand(20000, 1, 3, 4) for states in (random_states(1, 1, 3, 4), value, value)]
    torch.manual_seed(0)
    mixed = encoder.attention(*many, drop=0.5)[0].mean(0)
    assert torch.allclose(mixed, encoder.attention(*(m[:1] for m in many))[0][0], atol=0.03)


def test_a_fresh_encoder_starts_like_bert():
    torch.manual_seed(0)
    fresh = TransformerEncoder(Sizes(vocab_size=500, hidden_size=96, num_hidden_layers=1))
    for name, parameter in fresh.named_parameters():
        if name.endswith(("bias", "gain")):
            assert parameter.unique().tolist() == [float(name.endswith("gain"))], name
        elif parameter.numel() > 5000:
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.05), name


def test_impossible_heads_are_refused():
    with pytest.raises(ValueError, match="384 is no multiple of 7"):
        Sizes(vocab_size=10, num_attention_heads=7)


def test_long_texts_and_wrong_masks_are_refused():
    fresh = TransformerEncoder(SIZES)
    with pytest.raises(ValueError, match="truncation=True"):
        fresh(torch.zeros(1, 21, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(4, 3\)"):
        fresh(torch.zeros(4, 3, dtype=torch.int64), torch.ones(3, 4))


# --- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [SIZES, Sizes(vocab_size=30, hidden_size=12, num_hidden_layers=1, type_vocab_size=1)])
def test_parameters_are_counted_by_part(sizes):
    model, counts = TransformerEncoder(sizes), encoder.parameter_counts(sizes)
    measured = dict.fromkeys(counts, 0)
    for name, parameter in model.named_parameters():
        part = next(
            part
            for part, sign in {"layer norms": "norm.", "token embeddings": "token.", "attention": ".attention.",
                               "feed-forward": ".feed_forward.", "positions and segments": "embeddings."}.items()
            if sign in name
        )  # fmt: skip
        measured[part] += parameter.numel()
    assert counts == measured


def test_published_models_have_the_parameters_that_transformers_builds():
    with torch.device("meta"):
        built = BertModel(BertConfig(), add_pooling_layer=False)
    sizes = Sizes(vocab_size=30522, hidden_size=768, intermediate_size=3072)
    assert sum(encoder.parameter_counts(sizes).values()) == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize("tokens", [4, 16])
def test_operations_equal_what_pytorch_counts(tokens):
    model = TransformerEncoder(SIZES).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, tokens, dtype=torch.int64))
    assert sum(encoder.flops(SIZES, tokens).values()) == counter.get_total_flops()


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("tokens", [5, 16])
def test_saved_numbers_equal_what_autograd_keeps(tokens, dropout):
    layer, kept = Layer(SIZES, 0.1).train(dropout), {}
    weights = {p.untyped_storage().data_ptr() for p in layer.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # holding it, so that no address is used twice
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(torch.randn(1, tokens, 24, requires_grad=True))
    expected = encoder.saved_numbers(SIZES, tokens, dropout=dropout)
    assert sum(n for n, _ in kept.values()) / 4 * SIZES.num_hidden_layers == sum(expected.values())


def test_the_encoder_fits_into_one_readable_file():
    assert len(Path(encoder.__file__).read_text(encoding="utf-8").splitlines()) <= 300
