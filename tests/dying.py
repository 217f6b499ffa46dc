"""A training run that is killed in the middle, for a child process."""

import os
from collections.abc import Callable

KILLED = 17
"""Exit code of the killed process."""


def scorer_that_dies(at: int = 3) -> Callable[[], dict]:
    """Return a scorer that ends the process at an evaluation, without any tidying."""
    evaluations = []

    def scorer() -> dict:
        evaluations.append(1)
        if len(evaluations) == at:
            os._exit(KILLED)
        return {"score": 0.5}

    return scorer
