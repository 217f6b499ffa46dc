"""A claim prints a line that is the same everywhere, and cannot pass by mistake."""

import numpy as np
import pytest
import torch

from xlbook.claims import MARK, ClaimFailed, claim


@pytest.mark.parametrize("holds", [True, np.bool_(True), np.float64(2) > 1])
def test_a_claim_that_holds_prints_one_line_and_nothing_measured(capsys, holds):
    assert claim("More is better.", holds, score=0.123) is None
    assert capsys.readouterr().out == f"{MARK} More is better.\n"


@pytest.mark.parametrize("holds", [False, np.bool_(False), np.float64("nan") > 1])
def test_a_claim_that_does_not_hold_raises_with_the_numbers(capsys, holds):
    with pytest.raises(ClaimFailed, match=r"does not hold: More is better\. Measured: score=0\.123, n=7\."):
        claim("More is better.", holds, score=0.123, n=7)
    assert capsys.readouterr().out == ""


def test_a_failed_claim_is_an_assertion_error_for_nbval():
    with pytest.raises(AssertionError, match="^Claim does not hold: No numbers.$"):
        claim("No numbers.", False)


@pytest.mark.parametrize("sentence", ["It finds 87 of them.", "Rank 1", "阿拉伯语 ٣", "全角 ３"])
@pytest.mark.parametrize("holds", [True, False])
def test_digits_are_refused_whether_it_holds_or_not(sentence, holds):
    with pytest.raises(ValueError, match="without digits"):
        claim(sentence, holds)


@pytest.mark.parametrize(
    "holds", [lambda: False, len, 1, 0.5, "yes", None, [False], np.array([True, True]), torch.tensor(True), np.int64(1)]
)
def test_only_a_comparison_counts(holds, capsys):
    with pytest.raises(TypeError, match="give the result of a comparison"):
        claim("More is better.", holds)
    assert capsys.readouterr().out == ""
