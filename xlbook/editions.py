"""Editions of the course from one source: every edition is made from the stored notebooks, nothing is copied by hand.

- ``learner``: no solutions, exercises without output;
- ``solution``: the solutions visible, no instructor's notes;
- ``instructor``: the solutions, a timetable, and the notes that stand in the cells' metadata ``instructor``;
- ``slides``: one reveal.js presentation a chapter, the prose as speaker notes;
- ``site``: HTML with index, search and glossary.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nbformat

from xlbook import course, pages, slides, website
from xlbook.lint import python_of
from xlbook.pages import Chapter, EditionError, notes, tags
from xlbook.runtime import did_you_mean, progress


def learner(chapter: Chapter):
    """Return the notebook without solutions and notes; exercises have no output, as if they were never run.

    Cells that work with the reader's answers have no output either, and the tag ``raises-exception``: "Run all" goes on
    behind an exercise that is still open.
    """
    notebook = without_notes(chapter.notebook)
    later = using_answers(notebook.cells)
    for number, cell in enumerate(notebook.cells):
        if "exercise" in tags(cell) or number in later:
            cell.outputs, cell.execution_count = [], None
        if number in later:
            cell.metadata["tags"] = sorted(tags(cell) | {"raises-exception"})
    notebook.cells = [cell for cell in notebook.cells if "solution" not in tags(cell)]
    return notebook


def using_answers(cells) -> set[int]:
    """Return the indices of the cells that use what exercises define, directly or through other cells."""
    answers, found = set(), set()
    for number, cell in enumerate(cells):
        if cell.cell_type != "code":
            continue
        tree = ast.parse(python_of(cell.source))
        defined = set(assigned(tree))
        if {"exercise", "solution"} & tags(cell):
            answers |= defined
        elif uses(tree, answers):
            found.add(number)
            answers |= defined
        else:
            answers -= defined
    return found


def uses(tree: ast.Module, names: set[str]) -> bool:
    """Return whether code uses one of some names before it binds the name itself.

    >>> uses(ast.parse("print(a)"), {"a"}), uses(ast.parse("a = 1; print(a)"), {"a"})
    (True, False)
    """
    names = set(names)
    for statement in tree.body:
        loaded = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        if loaded & names:
            return True
        names -= set(assigned(ast.Module([statement], [])))
    return False


def assigned(node: ast.AST) -> Iterator[str]:
    """Yield the names that code binds in its own scope: not those inside of functions and comprehensions.

    >>> sorted(assigned(ast.parse("a = [b for b in c]; import d.e; def f(x): y = x".replace("; def", chr(10) + "def"))))
    ['a', 'd', 'f']
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield child.name
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in child.names)
        elif isinstance(child, ast.Name):
            yield from [child.id] if isinstance(child.ctx, ast.Store) else []
        elif not isinstance(child, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            yield from assigned(child)


def solution(chapter: Chapter):
    """Return the notebook with its solutions unfolded, without notes."""
    notebook = without_notes(chapter.notebook)
    for cell in notebook.cells:
        cell.metadata.get("jupyter", {}).pop("source_hidden", None)
    return notebook


def instructor(chapter: Chapter):
    """Return the notebook with solutions, a timetable behind the title, and the notes beside the cells they are about.

    A note stands behind the text that it is about, and before the code: what to ask is asked before the run.
    """
    notebook = solution(chapter)
    cells = []
    for cell, source in zip(notebook.cells, chapter.notebook.cells, strict=True):
        around = [cell]
        if notes(source):
            around.insert(1 if cell.cell_type == "markdown" else 0, note_cell(source))
        cells += around
    if table := timetable(chapter):
        cells.insert(1, markdown_cell(f"{chapter.stem}-timetable", table))
    notebook.cells = cells
    return notebook


def without_notes(notebook):
    """Return a copy of a notebook without the instructor's notes in the metadata."""
    notebook = nbformat.from_dict(notebook)
    notebook = nbformat.reads(nbformat.writes(notebook), as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("instructor", None)
    return notebook


def note_cell(cell):
    """Return a cell's notes as a markdown cell."""
    lines = [f"> **{label}:** {text}{' min' if label == 'Minutes' else ''}" for label, text in notes(cell)]
    return markdown_cell(f"{cell.get('id', '')}-note", "> **For the instructor**\n>\n" + "\n>\n".join(lines))


def markdown_cell(name: str, source: str):
    """Return a markdown cell for instructors; its id follows from the name, so that two builds are equal."""
    import hashlib

    cell = nbformat.v4.new_markdown_cell(source, metadata={"tags": ["instructor"]})
    cell.id = hashlib.sha256(name.encode()).hexdigest()[:12]
    return cell


def timetable(chapter: Chapter) -> str:
    """Return a markdown table: section, planned minutes, minutes so far; empty if nothing is planned."""
    rows, section = {}, chapter.title
    for cell in chapter.notebook.cells:
        if cell.cell_type == "markdown" and (headings := re.findall(r"(?m)^## (.+)$", cell.source)):
            section = headings[-1]
        if planned := pages.minutes(cell):
            rows[section] = rows.get(section, 0) + planned
    if not rows:
        return ""
    lines, passed = [], 0
    for name, planned in rows.items():
        passed += planned
        lines.append(f"| {name} | {planned} | {passed} |")
    return "**Timetable**\n\n| section | minutes | minutes so far |\n|---|--:|--:|\n" + "\n".join(lines)


NOTEBOOKS: dict[str, Callable] = {"learner": learner, "solution": solution, "instructor": instructor}
EDITIONS = (*NOTEBOOKS, "slides", "site")


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Return the editions that are named, all if none is.

    Raises:
        EditionError: for a name that is not an edition.
    """
    for name in names:
        if name not in EDITIONS:
            raise EditionError(f"Unknown edition {name!r}. {did_you_mean(name, EDITIONS)}")
    return tuple(e for e in EDITIONS if e in names) if names else EDITIONS


def build(out: Path, *, editions: Sequence[str] = (), chapters: Sequence[str] = ()) -> list[Path]:
    """Build editions and return the folders, one an edition.

    Args:
        out: folder that gets one folder an edition.
        editions: names out of :data:`EDITIONS`; all if none is given.
        chapters: numbers or stems; all if none is given.

    Raises:
        EditionError: for an unknown edition, a notebook without a title, or a folder that cannot be written.
        ValueError: for a chapter that does not exist.
        xlbook.sources.SourceError: if reveal.js, which the slides need, cannot be fetched.
    """
    wanted, out = chosen(editions), Path(out)
    sources = [pages.read(file) for file in course.chapters(chapters)]
    glossary = course.notebooks_folder().parent / "docs" / "glossary.md"
    if "slides" in wanted:
        slides.copy_reveal(out / "slides")
    for name in progress(wanted, label="editions", unit="edition"):
        if name == "slides":
            slides.build(sources, out / name)
        elif name == "site":
            website.build(sources, glossary, out / name)
        else:
            for chapter in sources:
                write_notebook(NOTEBOOKS[name](chapter), out / name / f"{chapter.stem}.ipynb")
    if set(wanted) & set(NOTEBOOKS) and glossary.exists():
        pages.write(out / "docs" / "glossary.md", glossary.read_text(encoding="utf-8"))
    return [out / name for name in wanted]


def write_notebook(notebook, file: Path) -> None:
    """Write a notebook of an edition, checked against the notebook format."""
    nbformat.validate(notebook)
    pages.write(file, nbformat.writes(notebook) + "\n")
