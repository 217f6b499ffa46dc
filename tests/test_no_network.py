"""The root conftest: notebooks under nbval cannot download anything, and still have their kernel and the cache."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from test_sources import GOOD, WHEEL, Index, row

from xlbook import sources

ROOT = Path(__file__).parents[1]
TINY = f"from xlbook import sources; sources.SOURCES = {{'tiny': sources.Wheel(**{vars(row())!r})}}\n"
FETCH = TINY + "try: print(sources.fetch('tiny').name)\nexcept sources.SourceError as error: print(error)"
ASK = "import urllib.request, urllib.error\ntry: print(urllib.request.urlopen({url!r}, timeout=10).status)\n"
ASK += "except urllib.error.URLError as error: print('refused', error.reason)"


@pytest.fixture
def index():
    served = Index()
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def online(index, cache, monkeypatch):
    """The address of a reader's index, with nothing of the root conftest in the environment."""
    place = importlib.util.spec_from_file_location("root_conftest", ROOT / "conftest.py")
    root = importlib.util.module_from_spec(place)
    place.loader.exec_module(root)
    for name in (*root.NO_NETWORK, "NO_PROXY", "no_proxy", "XLBOOK_PROFILE", "XLBOOK_QUIET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return index.url


def python(code: str, *, offline: bool, folder: Path = ROOT) -> str:
    """Run code in another process, with or without what the root conftest sets; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", ("import conftest\n" if offline else "") + code],
        cwd=folder, capture_output=True, encoding="utf-8", timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_not_cached_cannot_be_fetched_and_the_message_says_so(online, index):
    said = python(FETCH, offline=True)
    assert "The package index could not be reached" in said and "xlbook fetch tiny --from DIR" in said
    assert index.downloads == 0 and not sources.is_cached("commands")


def test_the_same_works_without_the_conftest(online, index):
    assert python(FETCH, offline=False).strip() == "xlbook-tiny-1.0" and index.downloads == 1


def test_what_is_cached_is_there(online, index, monkeypatch, tmp_path):
    (tmp_path / WHEEL).write_bytes(GOOD)
    monkeypatch.setattr(sources, "SOURCES", {"tiny": row()})
    sources.fetch("tiny", wheels=tmp_path)
    assert python(FETCH, offline=True).strip() == "xlbook-tiny-1.0" and index.downloads == 0


@pytest.mark.parametrize(
    "way", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONFIG_FILE", "XLBOOK_WHEELS"]
)
def test_no_other_way_of_the_readers_leads_around_it(online, index, monkeypatch, tmp_path, way):
    (tmp_path / WHEEL).write_bytes(GOOD)
    (tmp_path / "xlbook-tiny").mkdir()
    (tmp_path / "xlbook-tiny" / WHEEL).write_bytes(GOOD)
    (tmp_path / "xlbook-tiny" / "index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>', encoding="utf-8")
    (tmp_path / "pip.conf").write_text(f"[global]\nfind-links = {tmp_path}\n", encoding="utf-8")
    values = dict.fromkeys(("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"), tmp_path.as_uri())
    values["PIP_CONFIG_FILE"] = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv(way, str(values.get(way, tmp_path)))
    assert python(FETCH, offline=False).strip() == "xlbook-tiny-1.0", "this way leads there without the conftest"
    for file in (Path(os.environ["XLBOOK_CACHE"]) / "sources" / "xlbook-tiny-1.0").glob("manifest.json"):
        file.unlink()
    assert "Could not fetch" in python(FETCH, offline=True)


@pytest.mark.parametrize("url", ["http://example.invalid/", "https://example.invalid/"])
def test_other_addresses_end_at_a_closed_port_without_being_looked_up(online, url):
    assert "Connection refused" in python(ASK.format(url=url), offline=True)


def test_this_machine_still_answers(online):
    assert python(ASK.format(url=online + "xlbook-tiny/"), offline=True).strip() == "200"


def test_the_hub_is_not_asked(online, monkeypatch):
    code = "from huggingface_hub import constants, hf_hub_download as get\n"
    code += "print(constants.HF_HUB_OFFLINE, constants.ENDPOINT)\n"
    code += "try: get('a/b', 'config.json')\nexcept Exception as error: print(type(error).__name__)"
    monkeypatch.setenv("HF_ENDPOINT", online)
    assert python(code, offline=True).split() == ["True", "http://127.0.0.1:9", "LocalEntryNotFoundError"]


def test_the_gpu_profile_keeps_its_network(online, index, monkeypatch):
    monkeypatch.setenv("XLBOOK_PROFILE", "gpu")
    assert python(FETCH, offline=True).strip() == "xlbook-tiny-1.0" and index.downloads == 1


def test_kernels_under_nbval_have_this_environment(online, index, tmp_path):
    fetch = FETCH.replace("error)", "str(error).split(', ')[0].split('. ')[1])")
    cells = [
        (fetch, "The package index could not be reached\n"),
        (ASK.format(url=online + "xlbook-tiny/"), "200\n"),
        ("import os; print(os.environ['XLBOOK_PROFILE'], os.environ['XLBOOK_QUIET'])", "laptop 1\n"),
    ]
    notebook = new_notebook(
        cells=[
            new_code_cell(code, execution_count=n, outputs=[new_output("stream", name="stdout", text=said)])
            for n, (code, said) in enumerate(cells, 1)
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, tmp_path / "tiny.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "conftest", "-q"]
    done = subprocess.run([*command, str(tmp_path / "tiny.ipynb")], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout
    assert index.downloads == 0
