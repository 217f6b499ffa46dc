"""Checking answers: a stub never passes, a wrong answer is told why, nothing raises but a wrong number."""

import sys
import types

import pytest

from xlbook import exercises
from xlbook.exercises import Verdict, Wrong, check, find, is_open


@pytest.fixture(autouse=True)
def chapter(monkeypatch):
    """A chapter 97 with one exercise: double a number."""
    module = types.ModuleType("xlbook.exercises.chapter_97")

    def exercise_1(answer) -> None:
        if answer(3) == 9:
            raise Wrong("squares-instead", "What does it give for 1?")
        if answer(3) != 6:
            raise Wrong("not-double", "Try it on 3.")

    module.exercise_1 = exercise_1
    monkeypatch.setitem(sys.modules, "xlbook.exercises.chapter_97", module)


def ellipsis(x): ...


def passes(x):
    pass


def documented(x):
    """Return twice the number."""


def documented_ellipsis(x):
    """Return twice the number."""
    ...


def returns_none(x):
    return None


def returns_ellipsis(x: int, *, y: int = 2) -> int:
    return ...


def bare_return(x):
    return


OPEN = [..., None, ellipsis, passes, documented, documented_ellipsis, returns_none, returns_ellipsis, bare_return,
        lambda x: ..., lambda x: None]  # fmt: skip


@pytest.mark.parametrize("stub", OPEN, ids=lambda s: getattr(s, "__name__", repr(s)))
def test_every_kind_of_stub_is_open(stub):
    verdict = check("97.1", stub)
    assert is_open(stub) and not verdict.passed and verdict.misconception == "open"
    assert repr(verdict).startswith("✗ Exercise 97.1: still open")


@pytest.mark.parametrize("stub", OPEN, ids=lambda s: getattr(s, "__name__", repr(s)))
def test_a_stub_is_open_even_where_the_check_would_accept_it(stub, monkeypatch):
    monkeypatch.setattr(sys.modules["xlbook.exercises.chapter_97"], "exercise_1", lambda answer: None)
    assert not check("97.1", stub).passed
    assert check("97.1", lambda x: x).passed


@pytest.mark.parametrize(
    "answer",
    [0, False, "", [], 0.0, len, int, lambda x: x, lambda x: 0, lambda x: False, lambda: [], lambda x: print(x)],
)
def test_an_answer_is_not_open(answer):
    assert not is_open(answer)


def test_a_function_with_work_and_no_result_is_an_answer():
    def works(x):
        x.append(1)

    assert not is_open(works)


def test_the_right_answer_passes():
    verdict = check("97.1", lambda x: 2 * x)
    assert verdict == Verdict("97.1", True, "", "right. Well done.")
    assert repr(verdict) == "✓ Exercise 97.1: right. Well done."


@pytest.mark.parametrize(
    ("answer", "misconception", "hint"),
    [(lambda x: x**2, "squares-instead", "What does it give for 1?"), (lambda x: 7, "not-double", "Try it on 3.")],
)
def test_a_wrong_answer_is_told_its_misconception(answer, misconception, hint):
    verdict = check("97.1", answer)
    assert verdict == Verdict("97.1", False, misconception, f"not yet. {hint}")
    assert repr(verdict) == f"✗ Exercise 97.1: not yet. {hint}"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: 6, "TypeError: "),
        (6, "TypeError: 'int' object is not callable"),
        (lambda x: x.upper(), "AttributeError: "),
    ],
)
def test_an_answer_that_raises_is_a_verdict_too(answer, message):
    verdict = check("97.1", answer)
    assert not verdict.passed and verdict.misconception == "error"
    assert f"Your answer raised {message}" in verdict.message


@pytest.mark.parametrize("number", ["97.2", "98.1", "97", "", "97.1.1", "one", 97.2, None])
def test_an_exercise_that_does_not_exist(number):
    with pytest.raises(ValueError, match=r"There is no exercise .* such as '01\.2'"):
        check(number, 1)


def test_a_chapter_that_cannot_be_imported_says_why(tmp_path, monkeypatch):
    (tmp_path / "chapter_96.py").write_text("import no_such_package_here\n", encoding="utf-8")
    monkeypatch.setattr(exercises, "__path__", [*exercises.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="no_such_package_here"):
        find("96.1")


def test_wrong_carries_name_and_hint():
    wrong = Wrong("mask-covers-padding", "Count the masked places.")
    assert (wrong.misconception, wrong.hint, str(wrong)) == ("mask-covers-padding", *["Count the masked places."] * 2)
