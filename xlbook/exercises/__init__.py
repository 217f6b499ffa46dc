"""Check answers to exercises: ``check("01.2", answer)`` says what is right, or which misconception it caught.

The exercises of chapter NN stand in ``xlbook/exercises/chapter_NN.py``, one function ``exercise_K`` each, which raises
:class:`Wrong` with the misconception and a hint. A stub never passes.
"""

from __future__ import annotations

import dis
import inspect
from dataclasses import dataclass
from importlib import import_module


class Wrong(Exception):
    """An answer that shows a known misconception.

    Args:
        misconception: a short name for it, such as ``mask-covers-padding``.
        hint: what to look at next, without giving the answer away.
    """

    def __init__(self, misconception: str, hint: str):
        super().__init__(hint)
        self.misconception, self.hint = misconception, hint


@dataclass(frozen=True)
class Verdict:
    """The result of a check; a notebook shows it as one line."""

    exercise: str
    """Number of chapter and exercise, ``01.2``."""
    passed: bool
    """Whether the answer is right."""
    misconception: str = ""
    """What went wrong, by its short name."""
    message: str = ""
    """What the learner reads."""

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} Exercise {self.exercise}: {self.message}"


def check(exercise: str, answer) -> Verdict:
    """Check an answer.

    Args:
        exercise: number of chapter and exercise, such as ``"01.2"``.
        answer: what the exercise asks for: a function, a number, a list.

    Returns:
        The verdict; it never raises for a wrong answer.

    Raises:
        ValueError: if there is no such exercise.
    """
    checker = find(exercise)
    if is_open(answer):
        return Verdict(exercise, False, "open", "still open. Replace the `...` by your answer and run the cell again.")
    try:
        checker(answer)
    except Wrong as wrong:
        return Verdict(exercise, False, wrong.misconception, f"not yet. {wrong.hint}")
    except Exception as error:
        return Verdict(exercise, False, "error", f"not yet. Your answer raised {type(error).__name__}: {error}")
    return Verdict(exercise, True, "", "right. Well done.")


def find(exercise: str):
    """Return the function that checks an exercise."""
    chapter, _, number = str(exercise).partition(".")
    module = f"xlbook.exercises.chapter_{chapter}"
    try:
        checker = getattr(import_module(module), f"exercise_{number}", None)
    except ModuleNotFoundError as error:
        if error.name != module:  # the chapter is there, and something that it imports is not
            raise
        checker = None
    if checker is None:
        raise ValueError(f"There is no exercise {exercise!r}; write chapter and number, such as '01.2'.")
    return checker


DOES_NOTHING = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}


def is_open(answer) -> bool:
    """Return whether an answer is a stub: ``...``, ``None``, or a function that does nothing and returns nothing.

    >>> def stub(x):
    ...     ...
    >>> is_open(stub), is_open(len)
    (True, False)
    """
    if answer is ... or answer is None:
        return True
    if not inspect.isfunction(answer):
        return False
    steps = list(dis.get_instructions(answer))
    returned = steps[-1].argval if steps[-1].opname == "RETURN_CONST" else steps[-2].argval
    return {s.opname for s in steps} <= DOES_NOTHING and returned in (None, ...)
