"""The workshop page agrees with the course: plans fit into their time, commands and notes exist."""

import re
import shlex
from pathlib import Path

import pytest

from xlbook import cli, editions, pages

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "workshop.md").read_text(encoding="utf-8")
LENGTH = {"90 minutes": (80, 90), "Half a day": (190, 215), "Two days": (600, 720)}
"""Plan -> fewest and most minutes that it may have."""


def rows(plan: str) -> list[tuple[str, int]]:
    """The lines of a plan: what, minutes."""
    section = PAGE.split(f"### {plan}\n")[1].split("\n### ")[0]
    return [(what, int(number)) for what, number in re.findall(r"(?m)^\| (.+?) \| (\d+) \|", section)]


@pytest.mark.parametrize("plan", LENGTH)
def test_a_plan_fits_into_its_time(plan):
    fewest, most = LENGTH[plan]
    assert fewest <= sum(number for _, number in rows(plan)) <= most


@pytest.mark.parametrize("plan", LENGTH)
def test_a_plan_names_sections_that_exist(plan):
    titles = {}
    for file in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        cells = [c.source for c in pages.read(file).notebook.cells if c.cell_type == "markdown"]
        titles[file.stem[:2]] = " ".join(h for s in cells for h in re.findall(r"(?m)^##+ (.+)$", s)).lower()
    for what, _ in rows(plan):
        number = next((n for n in titles if f"{n} " in what), None)
        for name in re.findall(r"\*([^*]+)\*", what) if number else []:
            assert name.lower().strip("?") in titles[number], f"chapter {number} has no section {name!r}"


def test_every_command_of_the_page_exists():
    commands = [shlex.split(line)[1:] for line in re.findall(r"(?m)^(xlbook [^#…]+?)(?:\s{3,}.*)?$", PAGE)]
    commands += [shlex.split(c)[1:] for c in re.findall(r"`(xlbook [^`]+)`", PAGE)]
    assert len(commands) >= 5
    for words in commands:
        command = cli.main
        while hasattr(command, "commands"):
            assert words[0] in command.commands, words
            command, words = command.commands[words[0]], words[1:]
        options = {o for p in command.params for o in p.opts}
        assert {w for w in words if w.startswith("--")} <= options, words


def test_the_page_names_all_editions_and_all_labels():
    assert all(f"| `{name}` |" in PAGE for name in editions.EDITIONS)
    assert all(f"\n{label}: " in PAGE for label in pages.NOTE_LABELS)
