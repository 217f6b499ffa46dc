"""Where this repository lies on the net. The address stands once, in ``pyproject.toml``; all else is made from it.

Badges and first cells of the notebooks, README, ``CITATION.cff`` and the pages name the address. After a change of
``[project.urls]``, ``xlbook editions badges`` writes it into all of them; a test finds what was forgotten.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import nbformat

BRANCH = "main"
COLAB = "https://colab.research.google.com"
BADGE = re.compile(rf"\[!\[Open in Colab\]\([^)]*\)\]\({COLAB}/github/[^)]*\)")
WRITTEN = (
    (re.compile(rf"({COLAB}/github/)[\w.-]+/[\w.-]+(/blob/)[\w.-]+(/)"), r"\g<1>{slug}\g<2>{branch}\g<3>"),
    (re.compile(r"git\+https://[\w./-]+[\w]"), "git+{url}"),
    (re.compile(r'(?m)^(repository-code: ")[^"]*(")$'), r"\g<1>{url}\g<2>"),
)
"""Places of text files that are written by :func:`rewrite`: pattern -> what stands there."""
BADGES = re.compile(r"(?m)^\[!\[Open in Colab\].*$")
"""The line of README that opens every chapter in Colab."""
TEXTS = ("README.md", "CITATION.cff", "docs/*.md")


@lru_cache(maxsize=1)
def repository() -> str:
    """Return the repository's address: from ``pyproject.toml`` in a checkout, else from the installed package.

    >>> repository().startswith("https://")
    True
    """
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if (
        project.is_file()
        and (found := tomllib.loads(project.read_text(encoding="utf-8"))["project"])["name"] == "xlbook"
    ):
        return found["urls"]["Repository"].rstrip("/")
    lines = importlib.metadata.metadata("xlbook").get_all("Project-URL") or ()
    urls = dict(line.split(", ", 1) for line in lines)
    return urls["Repository"].rstrip("/")


def slug() -> str:
    """Return owner and name of the repository, as Colab's links have them."""
    return "/".join(repository().split("/")[-2:])


def colab_link(stem: str) -> str:
    """Return the address that opens a chapter in Colab."""
    return f"{COLAB}/github/{slug()}/blob/{BRANCH}/notebooks/{stem}.ipynb"


def badge(stem: str) -> str:
    """Return the badge of a chapter as markdown."""
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({colab_link(stem)})"


def install_source() -> str:
    """Return the first code cell of every chapter: one line that installs the package in Colab.

    Wheels only, so that no compiler is needed; what Colab has already is kept if it is new enough.
    """
    return (
        "import sys\nfrom importlib.util import find_spec\n\n"
        'if "google.colab" in sys.modules and not find_spec("xlbook"):  # elsewhere this cell does nothing\n'
        f'    %pip install -q --only-binary=:all: "xlbook @ git+{repository()}"'
    )


def is_install(cell) -> bool:
    """Return whether a cell of a notebook is the one that installs the package."""
    return cell.cell_type == "code" and '"google.colab" in sys.modules' in cell.source


def install_cell(stem: str):
    """Return that cell for a chapter, as if it had been run."""
    cell = nbformat.v4.new_code_cell(install_source(), execution_count=1)
    cell.id = hashlib.sha256(f"install {stem}".encode()).hexdigest()[:8]
    return cell


def addressed(notebook, stem: str) -> bool:
    """Give a notebook its badge and its first code cell; return whether that changed it."""
    before = nbformat.writes(notebook)
    head = notebook.cells[0]
    if BADGE.search(head.source):
        head.source = BADGE.sub(lambda _: badge(stem), head.source)
    else:
        title, _, text = head.source.partition("\n")
        head.source = f"{title}\n\n{badge(stem)}\n{text}"
    rest = [cell for cell in notebook.cells[1:] if not is_install(cell)]
    kept = next((cell for cell in notebook.cells if is_install(cell)), None) or install_cell(stem)
    kept.source, kept.outputs = install_source(), []
    notebook.cells = [head, kept, *rest]
    if nbformat.writes(notebook) == before:
        return False
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        if cell.execution_count is not None:
            cell.execution_count = number
    return True


def current(text: str) -> str:
    """Return a text with today's address at the known places (:data:`WRITTEN`)."""
    for pattern, replacement in WRITTEN:
        text = pattern.sub(replacement.format(slug=slug(), url=repository(), branch=BRANCH), text)
    return text


def badge_line(stems: Sequence[str]) -> str:
    """Return a badge and the links of all chapters, as one line of markdown."""
    links = " · ".join(f"[{stem[:2]}]({colab_link(stem)})" for stem in stems)
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({colab_link(stems[0])}) {links}"


def texts(root: Path) -> Iterator[Path]:
    """Yield the text files of a checkout that name the address."""
    for pattern in TEXTS:
        yield from sorted(root.glob(pattern))


def rewrite(root: Path, *, check: bool = False) -> list[Path]:
    """Write the address of ``pyproject.toml`` wherever it has to stand; return the files that it changed.

    Args:
        root: a checkout.
        check: change nothing, only say which files are not up to date.
    """
    changed, chapters = [], sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    line = badge_line([file.stem for file in chapters])
    for file in texts(root):
        text = file.read_text(encoding="utf-8")
        if (new := BADGES.sub(lambda _: line, current(text))) != text:
            changed.append(file)
            if not check:
                file.write_text(new, encoding="utf-8")
    for file in chapters:
        notebook = nbformat.read(file, as_version=4)
        if addressed(notebook, file.stem):
            changed.append(file)
            if not check:
                file.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return changed
