"""The repository's address stands in pyproject.toml alone; what names it elsewhere was made from it."""

import importlib.metadata
import re
import shutil
import tomllib
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from test_packaging import texts

from xlbook import address, cli

ROOT = Path(__file__).parents[1]
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
OTHER = "https://example.org/teacher/fork"


@pytest.fixture
def moved(monkeypatch):
    """The repository lies elsewhere from now on."""
    monkeypatch.setattr(address, "repository", lambda: OTHER)


@pytest.fixture
def checkout(tmp_path):
    """A small copy of what names the address."""
    for name in ("README.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir()
    cells = [new_markdown_cell("# 00 · A title\n\nText."), new_code_cell("1 + 1", execution_count=1)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / "00_a.ipynb")
    return tmp_path


def test_a_checkout_reads_pyproject():
    assert address.repository() == ADDRESS and ADDRESS.endswith("/" + address.slug())


def test_an_installed_package_reads_its_metadata(monkeypatch, tmp_path):
    """Beside the installed package lies no pyproject.toml, or somebody else's."""
    (tmp_path / "xlbook").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "theirs"\n', encoding="utf-8")
    monkeypatch.setattr(address, "__file__", str(tmp_path / "xlbook" / "address.py"))
    lines = {"Project-URL": ["Homepage, https://example.org", f"Repository, {OTHER}/"]}
    metadata = type("Metadata", (), {"get_all": lambda self, name: lines[name]})()
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: metadata)
    address.repository.cache_clear()
    assert address.repository() == OTHER
    address.repository.cache_clear()


def test_everything_is_up_to_date():
    assert address.rewrite(ROOT, check=True) == [], "run: xlbook editions badges"


def test_readme_opens_every_chapter_in_colab():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [
        f.stem for f in sorted((ROOT / "notebooks").glob("*.ipynb")) if address.colab_link(f.stem) not in text
    ] == []


def test_no_file_has_the_address_typed():
    """Taken away: pyproject.toml, and the places that `xlbook editions badges` writes."""
    known = [address.colab_link(r"\w+").replace("https", "https?"), re.escape(f"git+{ADDRESS}"),
             f'repository-code: "{re.escape(ADDRESS)}"']  # fmt: skip
    strays = [
        str(file.relative_to(ROOT))
        for file in texts() + [ROOT / "CITATION.cff"]
        if file.name != "pyproject.toml"
        and address.slug().lower()
        in re.sub("|".join(known), "", file.read_text(encoding="utf-8", errors="replace")).lower()
    ]
    assert strays == []


def test_after_a_move_everything_names_the_new_place(checkout, moved):
    changed = address.rewrite(checkout)
    assert {f.name for f in changed} == {"README.md", "CITATION.cff", "00_a.ipynb"}
    for file in changed:
        text = file.read_text(encoding="utf-8")
        assert "teacher/fork" in text and ADDRESS.removeprefix("https://") not in text
    assert address.rewrite(checkout) == []


def test_a_notebook_gets_badge_and_first_cell_once(checkout):
    file = checkout / "notebooks" / "00_a.ipynb"
    assert file in address.rewrite(checkout)
    head, install, rest = nbformat.read(file, as_version=4).cells
    assert head.source == f"# 00 · A title\n\n{address.badge('00_a')}\n\nText."
    assert install.source == address.install_source() and re.fullmatch("[0-9a-f]{8}", install.id)
    assert (install.execution_count, rest.execution_count) == (1, 2)
    once = file.read_bytes()
    assert address.rewrite(checkout) == [] and file.read_bytes() == once


def test_a_first_cell_that_somebody_changed_or_moved_is_put_right(checkout):
    file = checkout / "notebooks" / "00_a.ipynb"
    address.rewrite(checkout)
    right = file.read_bytes()
    notebook = nbformat.read(file, as_version=4)
    notebook.cells[1].source = notebook.cells[1].source.replace("-q", "")
    notebook.cells.append(notebook.cells.pop(1))
    nbformat.write(notebook, file)
    assert address.rewrite(checkout) == [file] and file.read_bytes() == right


def test_checking_changes_nothing(checkout, moved):
    before = {f: f.read_bytes() for f in checkout.rglob("*") if f.is_file()}
    assert len(address.rewrite(checkout, check=True)) == 3
    assert {f: f.read_bytes() for f in before} == before


def test_the_command(checkout, monkeypatch, moved):
    monkeypatch.chdir(checkout)
    (checkout / "notebooks" / "00_setup.ipynb").write_bytes((checkout / "notebooks" / "00_a.ipynb").read_bytes())
    runner = CliRunner()
    done = runner.invoke(cli.main, ["editions", "badges", "--check"])
    assert done.exit_code == 1 and "not up to date" in done.output and OTHER in done.output
    done = runner.invoke(cli.main, ["editions", "badges"])
    assert done.exit_code == 0 and done.output.count("written: ") == 4
    assert runner.invoke(cli.main, ["editions", "badges", "--check"]).exit_code == 0


# --- the first cell ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("colab", "there", "installs"), [(False, False, 0), (True, True, 0), (True, False, 1)])
def test_the_first_cell_installs_in_colab_only(monkeypatch, colab, there, installs):
    import importlib.util
    import sys

    from IPython.core.inputtransformer2 import TransformerManager

    code = TransformerManager().transform_cell(address.install_source())
    monkeypatch.setitem(sys.modules, "google.colab", object()) if colab else monkeypatch.delitem(
        sys.modules, "google.colab", raising=False
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if there else None)
    called = []
    shell = type("Shell", (), {"run_line_magic": lambda self, *words: called.append(words)})()
    exec(code, {"get_ipython": lambda: shell})
    assert len(called) == installs
    if installs:
        name, words = called[0]
        assert name == "pip" and "--only-binary=:all:" in words and f'"xlbook @ git+{ADDRESS}"' in words
        assert "--no-binary" not in words, "every dependency has a wheel: no compiler is needed in Colab"
        assert sum(line.count("pip install") for line in address.install_source().splitlines()) == 1
