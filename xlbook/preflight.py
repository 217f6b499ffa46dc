"""The checks before a workshop: what `xlbook doctor --workshop` looks at besides the machine."""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
import time
from pathlib import Path

from xlbook import course, runtime

Row = tuple[str, str, bool, str]
"""Name of a check, what was found, whether it is fine, what to do otherwise."""
COMMANDS_A_SECOND = 15
"""Slower than this, a chapter that trains takes more than three times the minutes that it promises."""


def checks() -> list[Row]:
    """Return all rows; the encoder, which takes longest, is the last."""
    return [jupyter(), widgets(), kernel(), *folders(), cores(), profile(), encoder()]


def jupyter() -> Row:
    """Is JupyterLab installed?"""
    try:
        return "jupyterlab", importlib.metadata.version("jupyterlab"), True, ""
    except importlib.metadata.PackageNotFoundError:
        return "jupyterlab", "not installed", False, 'python -m pip install "xlbook[lab]"'


def widgets() -> Row:
    """Are the playgrounds' controls installed, and the part of JupyterLab that shows them?"""
    try:
        found = {name: importlib.metadata.version(name) for name in ("ipywidgets", "jupyterlab_widgets")}
    except importlib.metadata.PackageNotFoundError as error:
        return "widgets", f"{error.name} is not installed", False, 'python -m pip install "xlbook[lab]" ipywidgets'
    return "widgets", ", ".join(f"{name} {version}" for name, version in found.items()), True, ""


def kernel() -> Row:
    """Does a kernel start, and is it this Python? A kernel of another environment is a common surprise."""
    import nbformat
    from nbclient import NotebookClient

    cell = nbformat.v4.new_code_cell("import sys, xlbook; print(sys.prefix)")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    remedy = f"{sys.executable} -m ipykernel install --sys-prefix"
    try:
        NotebookClient(notebook, timeout=60, kernel_name="python3", extra_arguments=list(course.QUIET_KERNEL)).execute()
    except Exception as error:  # whatever it is: it must become a row with a remedy
        return "kernel", f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:80]}", False, remedy
    prefix = notebook.cells[0].outputs[0].text.strip()
    return "kernel", prefix, Path(prefix).resolve() == Path(sys.prefix).resolve(), remedy


def folders() -> list[Row]:
    """Are the notebooks there, and can notebooks and cache be written?"""
    try:
        notebooks = course.notebooks_folder()
    except FileNotFoundError as error:
        return [("notebooks", "not found", False, str(error))]
    count = len(list(notebooks.glob("[0-9][0-9]_*.ipynb")))
    rows = [("notebooks", f"{count} chapters in {notebooks}", True, "")]
    for name, folder in (("notebooks folder", notebooks), ("cache folder", runtime.cache_dir())):
        written = can_write(folder)
        rows.append((name, "can be written" if written else "cannot be written", written, f"give yourself {folder}"))
    return rows


def can_write(folder: Path) -> bool:
    """Return whether a file can be made in a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def cores() -> Row:
    """Are two cores free?"""
    free = runtime.free_cores()
    return "free cores", str(free), free >= 2, "close other programs; with one core a chapter takes about twice as long"


def profile() -> Row:
    """Is it a profile whose numbers a room can look at?"""
    name, why = runtime.choose_profile()
    return (
        "profile",
        f"{name} ({why})",
        name != "smoke",
        "unset XLBOOK_PROFILE; smoke is for tests, its numbers say nothing",
    )


def encoder() -> Row:
    """Does the encoder load, and how many commands a second does it read? Converts it on the first run."""
    from xlbook import checkpoints, corpora, representations

    try:
        started = time.perf_counter()
        loaded = checkpoints.load("multilingual-e5-small")
        seconds = time.perf_counter() - started
        texts = [c.text for c in corpora.natural("en", "train")[:64]]
        started = time.perf_counter()
        representations.embed(loaded, texts)
        rate = len(texts) / (time.perf_counter() - started)
    except Exception as error:  # whatever it is: it must become a row with a remedy
        return "encoder", f"{type(error).__name__}: {str(error).splitlines()[0][:80]}", False, "xlbook fetch"
    found = f"loads in {seconds:.0f} s, reads {rate:.0f} commands a second"
    return "encoder", found, rate >= COMMANDS_A_SECOND, "close other programs; show chapter 06 from its stored outputs"
