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


CHAPTERS = {file.stem[:2]: pages.read(file) for file in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}


def rows(plan: str) -> list[tuple[str, int, str]]:
    """The lines of a plan: what, minutes, how."""
    section = PAGE.split(f"### {plan}\n")[1].split("\n### ")[0]
    return [(what, int(n), how) for what, n, how in re.findall(r"(?m)^\| (.+?) \| (\d+) \|(.*)\|$", section)]


def sections(chapter: pages.Chapter) -> list[tuple[int, str, int]]:
    """Level, heading and planned minutes of each part of a chapter; the opening is level 2 and has no heading.

    A note on a text with several headings belongs to the last one.
    """
    found = [(2, "opening", 0)]
    for cell in chapter.notebook.cells:
        if cell.cell_type == "markdown":
            found += [(len(m), h, 0) for m, h in re.findall(r"(?m)^(##+) (.+)$", cell.source)]
        level, heading, planned = found.pop()
        found.append((level, heading, planned + pages.minutes(cell)))
    return found


def exercise_minutes(chapter: pages.Chapter, number: str = "") -> int:
    """Planned minutes of an exercise such as 01.2, or of all."""
    return sum(n for _, heading, n in sections(chapter) if heading.startswith(f"Exercise {number}"))


def place(name: str, parts: list[tuple[int, str, int]]) -> int:
    """Index of the one part whose heading begins like this."""
    found = [i for i, (_, heading, _) in enumerate(parts) if heading.lower().startswith(name.lower().rstrip("?"))]
    assert len(found) == 1, f"{len(found)} sections begin with {name!r}"
    return found[0]


def block(start: int, parts: list[tuple[int, str, int]]) -> set[int]:
    """Indices of a part and of the parts below it."""
    level = parts[start][0]
    end = next((i for i in range(start + 1, len(parts)) if parts[i][0] <= level), len(parts))
    return set(range(start, end))


def noted(what: str) -> int:
    """Return the minutes that the notes plan for a row such as ``00: *A* to *B*; *C* without *D*, exercise 00.1``.

    Exercises count only where they are named.
    """
    number, wanted = re.search(r"\b(\d\d): (.+)", what).groups()
    chapter, parts = CHAPTERS[number], sections(CHAPTERS[number])
    if wanted == "whole":
        return sum(n for _, _, n in parts)
    numbers = re.findall(r"\d\d\.\d", wanted)
    assert all(exercise_minutes(chapter, n) for n in numbers), f"no minutes for one of {numbers}"
    named, _, without = (
        re.sub(r",? ?exercises? [\d., ]+$", "", wanted).replace("opening", "*opening*").partition(" without ")
    )
    chosen = set()
    for piece in named.split("; "):
        first, *last = [place(n, parts) for n in re.findall(r"\*([^*]+)\*", piece)]
        for end in last or [first]:
            chosen |= (set(range(first, max(block(end, parts)) + 1)) if " to " in piece
                       else block(first, parts) | block(end, parts))  # fmt: skip
    for name in re.findall(r"\*([^*]+)\*", without):
        assert place(name, parts) in chosen, f"{name!r} is not in this row anyway"
        chosen -= block(place(name, parts), parts)
    plain = sum(parts[i][2] for i in chosen if not parts[i][1].startswith("Exercise"))
    return plain + sum(exercise_minutes(chapter, n) for n in numbers)


@pytest.mark.parametrize("plan", LENGTH)
def test_a_plan_fits_into_its_time(plan):
    fewest, most = LENGTH[plan]
    assert fewest <= sum(number for _, number, _ in rows(plan)) <= most


@pytest.mark.parametrize("plan", LENGTH)
def test_the_minutes_of_a_plan_are_those_of_the_notes(plan):
    """A row that is told from stored outputs may be shorter."""
    found = [(what, planned, noted(what), "stored" in how) for what, planned, how in rows(plan) if ": " in what[:40]]
    assert len(found) >= 6
    assert [row for row in found if (row[1] > row[2] if row[3] else row[1] != row[2])] == []


def test_two_days_have_all_chapters():
    text = " ".join(what for what, _, _ in rows("Two days"))
    assert [number for number in CHAPTERS if f"{number}: " not in text] == []


def test_the_table_of_whole_chapters_is_that_of_the_notes():
    found = {n: (int(a), int(b)) for n, a, b in re.findall(r"(?m)^\| (\d\d) \| (\d+) \| (\d+) \|", PAGE)}
    planned = {n: (sum(m for _, _, m in sections(c)), exercise_minutes(c)) for n, c in CHAPTERS.items()}
    assert found == planned
    for number, where in re.findall(r"(?m)^\| (\d\d) \| \d+ \| \d+ \| (.+) \|$", PAGE):
        for name in re.findall(r"\*([^*]+)\*", where):
            place(name, sections(CHAPTERS[number]))


@pytest.mark.parametrize("number", CHAPTERS)
def test_every_section_has_its_minutes_and_every_chapter_all_kinds_of_notes(number):
    """But for the last section, which is for a GPU, and headings whose parts have the minutes."""
    parts = sections(CHAPTERS[number])
    parts = parts[: next(i for i, (_, heading, _) in enumerate(parts) if heading.startswith("On the GPU profile"))]
    tops = [i for i, (level, _, _) in enumerate(parts) if level == 2]
    bare = [parts[i][1] for i in tops if not sum(parts[j][2] for j in block(i, parts))]
    assert [h for h in bare if h != "A riddle"] == [], "the riddle's note stands in the next section's"
    assert [h for _, h, n in parts if h.startswith("Exercise ") and not n] == []
    kinds = {label for cell in CHAPTERS[number].notebook.cells for label, _ in pages.notes(cell)}
    assert kinds == set(pages.NOTE_LABELS)


def test_what_a_row_names_is_added_up():
    assert noted("00: *The story*; *Measuring* and *How sure are we?*") == 3 + 6 + 6
    assert noted("00: *The story*, exercises 00.1, 00.3") == 3 + 5 + 5
    assert noted("06: *Fine-tuning the encoder* without *Choosing without looking*") == 12 + 6 + 3
    with pytest.raises(AssertionError, match="begin with 'The tale'"):
        noted("00: *The tale*")
    with pytest.raises(AssertionError, match="not in this row"):
        noted("00: *The story* without *Your machine*")


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


def test_what_the_page_links_and_opens_exists():
    assert all((ROOT / link).exists() for link in re.findall(r"\]\((?!http)([^)#]+)", PAGE))
    assert {name for name in re.findall(r"build/editions/(\w+)", PAGE)} <= {*editions.EDITIONS, "docs"}


def test_the_page_names_all_editions_and_all_labels():
    assert all(f"| `{name}` |" in PAGE for name in editions.EDITIONS)
    assert all(f"\n{label}: " in PAGE for label in pages.NOTE_LABELS)
