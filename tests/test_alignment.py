"""Contrastive alignment: the loss against its equation, and what it does to a tiny encoder."""

import numpy as np
import pytest
import torch

from xlbook import alignment


def test_the_loss_equals_the_equation():
    generator = torch.Generator().manual_seed(0)
    v, a = (torch.nn.functional.normalize(torch.randn(3, 4, generator=generator), dim=-1) for _ in range(2))
    scores = (v @ a.T).numpy() / 0.5
    rows = [-np.log(np.exp(scores[i, i]) / np.exp(scores[i]).sum()) for i in range(3)]
    columns = [-np.log(np.exp(scores[i, i]) / np.exp(scores[:, i]).sum()) for i in range(3)]
    loss = alignment.contrastive_loss(v, a, torch.arange(3), temperature=0.5)
    assert float(loss) == pytest.approx((np.mean(rows) + np.mean(columns)) / 2, abs=1e-6)


def test_sentences_with_the_same_anchor_are_no_negatives():
    v = torch.eye(3)
    anchors = torch.stack([torch.eye(3)[0], torch.eye(3)[0], torch.eye(3)[2]])
    v = torch.stack([v[0], v[0], v[2]])
    loss = alignment.contrastive_loss(v, anchors, torch.tensor([0, 0, 1]), temperature=0.05)
    assert float(loss) < 1e-6


def test_no_pairs_is_a_clear_error():
    with pytest.raises(ValueError, match="no pairs"):
        alignment.align(None, [])
