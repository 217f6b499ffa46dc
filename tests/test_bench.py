"""The paired benchmark, with a clock of our own: no test depends on how fast this machine is."""

import pytest
from click.testing import CliRunner

from xlbook import bench
from xlbook.cli import main


class Clock:
    """A clock that moves only when somebody works."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, *seconds: float):
        """Return something to call that takes these seconds, one after the other."""
        left = list(seconds)

        def call() -> None:
            self.calls.append(name)
            self.now += left.pop(0)

        return call


def test_baseline_and_candidate_take_turns_and_the_first_round_does_not_count():
    clock = Clock()
    pair = ("slow", clock.work("A", 99, 4, 6, 8)), ("quick", clock.work("B", 50, 2, 2, 2))
    result = bench.paired(pair, rounds=3, clock=clock)
    assert clock.calls == ["A", "B"] * 4
    assert result.baseline_seconds == (4, 6, 8) and result.candidate_seconds == (2, 2, 2)
    assert result.ratios == [2, 3, 4] and result.speedup == 3
    assert str(result) == "quick: 2.000 s; slow: 6.000 s; 3.00 times as fast (rounds: 2.00 to 4.00)"


def test_no_rounds_is_an_error():
    with pytest.raises(ValueError, match="rounds=0"):
        bench.paired((("a", print), ("b", print)), rounds=0)


def test_an_unknown_benchmark_is_named_before_anything_runs(monkeypatch):
    monkeypatch.setitem(bench.BENCHMARKS, "sorting", lambda: pytest.fail("ran"))
    with pytest.raises(ValueError, match='Did you mean "freezing"'):
        bench.run(["sorting", "freezin"])


def test_the_command_prints_machine_and_ratio(monkeypatch):
    monkeypatch.setattr(bench, "BENCHMARKS", {"tiny": lambda: (("a", lambda: None), ("b", lambda: None))})
    shown = CliRunner().invoke(main, ["bench", "tiny", "--rounds", "1"])
    assert shown.exit_code == 0 and "thread(s)" in shown.output and "times as fast" in shown.output
    wrong = CliRunner().invoke(main, ["bench", "tny"])
    assert wrong.exit_code != 0 and 'Did you mean "tiny"' in wrong.output and "Traceback" not in wrong.output


@pytest.mark.sources
@pytest.mark.parametrize("name", list(bench.BENCHMARKS))
def test_each_benchmark_compares_two_ways_that_run(name):
    (_, baseline), (_, candidate) = bench.BENCHMARKS[name]()
    baseline(), candidate()
