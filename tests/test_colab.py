"""As in Colab: its Python and its libraries, an empty folder with one notebook, and nothing of this repository but what
the notebook's own first cell installs.

The cell runs as it is written. git is told that the repository's address is a copy of this checkout, so that pip clones
the copy, builds its wheel and installs it. Data and weights are those of ``XLBOOK_CACHE``.

Slow and large, so a command of its own: make test-colab

- ``COLAB_PYTHON`` names an interpreter; otherwise Python 3.12 is looked for, then the running one is taken;
- ``TORCH_INDEX`` names the index that torch comes from, such as that of the small CPU builds.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from xlbook import address, pack
from xlbook.course import CELL_SECONDS

pytestmark = [pytest.mark.colab, pytest.mark.sources]
ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
KEPT = ("torch", "transformers", "numpy", "scikit-learn", "matplotlib", "ipykernel", "ipython", "ipywidgets", "pandas")
"""What is large, or what the running session depends on: installing the course must not touch it."""
INSTALL_SECONDS = 60
"""What the first cell may take in Colab; here it is only reported, because other programs run beside it."""
VERSIONS = (
    "import importlib.metadata as m, json\nprint(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
)


def interpreter() -> str:
    """Python 3.12 if there is one, else the running one."""
    home = Path.home()
    places = [
        home.glob(f"{place}/bin/python3.12") for place in (".pyenv/versions/3.12*", ".local/share/uv/python/*3.12*")
    ]
    found = [str(file) for files in places for file in files]
    for candidate in (os.environ.get("COLAB_PYTHON"), shutil.which("python3.12"), *found):
        if candidate and not subprocess.run([candidate, "-c", "import ensurepip"], capture_output=True).returncode:
            return candidate
    return sys.executable


def own_environment(**more: str) -> dict[str, str]:
    """The environment of a person: what the tests of this repository set is not in it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XLBOOK_", "HF_", "PYTHON", "PYTEST", "PIP_"))}
    kept = {k: v for k, v in kept.items() if v != "http://127.0.0.1:9" and k not in ("NO_PROXY", "no_proxy")}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"} | more


def run(*command: str | Path, **options) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def asked_for(request):
    if "colab" not in request.config.getoption("-m"):
        pytest.skip("takes minutes and a package index: make test-colab")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory) -> Path:
    """A folder like Colab's machine: its libraries, ``google.colab``, a kernel; and a copy of the repository."""
    folder = tmp_path_factory.mktemp("colab")
    python, started = interpreter(), time.monotonic()
    run(python, "-m", "venv", folder / "venv")
    inside = folder / "venv" / "bin" / "python"
    version = run(inside, "-c", "import sys; print(sys.version.split()[0])").strip()
    note = "" if version.startswith("3.12.") else " (Colab has 3.12; none was found here)"
    print(f"\nas in Colab: Python {version}{note}")
    pip = [inside, "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
    torch = re.search(r"(?m)^torch==.*$", (ROOT / "constraints.txt").read_text(encoding="utf-8"))[0]
    index = ["--index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
    run(*pip, *index, torch, env=own_environment())
    run(*pip, "-r", ROOT / "tests" / "colab.txt", torch, env=own_environment())
    print(f"its libraries: {time.monotonic() - started:.0f} s")
    stub = next((folder / "venv" / "lib").glob("python3*/site-packages")) / "google" / "colab"
    stub.mkdir(parents=True)
    (stub / "__init__.py").touch()
    start = folder / "ipython" / "profile_default" / "startup"
    start.mkdir(parents=True)
    (start / "colab.py").write_text("import google.colab\n", encoding="utf-8")
    kernel = folder / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [str(inside), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}))
    repository(folder / "repository")
    return folder


def repository(folder: Path) -> None:
    """A git repository with what a build of this package needs, as it is in this checkout now."""
    folder.mkdir()
    for name in pack.SOURCE_FILES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    git = ["git", "-c", "user.name=xlbook", "-c", "user.email=xlbook@example.org", "-C", folder]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "As it is"]):
        run(*git, *words)


def execute(notebook, folder: Path, runtime: Path) -> float:
    """Run a notebook in an empty folder of the runtime; return the seconds."""
    redirect = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_VALUE_0": address.repository(),
                "GIT_CONFIG_KEY_0": f"url.{(runtime / 'repository').as_uri()}.insteadOf"}  # fmt: skip
    places = {"IPYTHONDIR": str(runtime / "ipython"), "XLBOOK_CACHE": str(runtime / "cache")}
    path = os.pathsep.join((str(runtime / "venv" / "bin"), os.environ["PATH"]))
    settings = own_environment(XLBOOK_PROFILE="smoke", PATH=path, **places, **redirect)
    client = NotebookClient(notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": folder}})
    started = time.monotonic()
    client.execute(env=settings)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def installed(runtime, tmp_path_factory):
    """The runtime after the first cell of a chapter ran there, and what pip changed."""
    os.environ["JUPYTER_PATH"] = str(runtime / "jupyter")
    cached = Path(os.environ.get("XLBOOK_CACHE") or Path.home() / ".cache" / "xlbook")
    (runtime / "cache").mkdir()
    for name in ("sources", "models"):
        if (cached / name).is_dir():
            (runtime / "cache" / name).symlink_to((cached / name).resolve())
    inside = runtime / "venv" / "bin" / "python"
    before = json.loads(run(inside, "-c", VERSIONS))
    first = nbformat.read(NOTEBOOKS[0], as_version=4)
    first.cells = first.cells[1:2]
    seconds = execute(first, tmp_path_factory.mktemp("first"), runtime)
    print(f"the first cell: {seconds:.0f} s (Colab's limit: {INSTALL_SECONDS} s)")
    after = json.loads(run(inside, "-c", VERSIONS))
    yield runtime, before, after
    os.environ.pop("JUPYTER_PATH")


def test_the_first_cell_installs_the_package_and_keeps_what_is_there(installed):
    runtime, before, after = installed
    where = "import xlbook; print(xlbook.__file__)"
    place = run(runtime / "venv" / "bin" / "python", "-c", where, cwd=runtime, env=own_environment())
    assert Path(place.strip()).is_relative_to(runtime / "venv")
    assert {name: after[name] for name in KEPT} == {name: before[name] for name in KEPT}
    changed = sorted(n for n in before if after[n] != before[n])
    print("new:", ", ".join(sorted(set(after) - set(before))), "\nanother version:", ", ".join(changed) or "none")


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_a_notebook_alone_in_a_folder_runs_to_its_end(installed, file, tmp_path):
    shutil.copy(file, tmp_path)
    notebook = nbformat.read(tmp_path / file.name, as_version=4)
    seconds = execute(notebook, tmp_path, installed[0])
    print(f"{file.stem}: {seconds:.0f} s")
    played = [c for c in notebook.cells if c.cell_type == "code" and "Playground(" in c.source]
    shown = [o.data for c in played for o in c.outputs if "data" in o and "<Playground" in o.data.get("text/plain", "")]
    assert len(shown) == len(played), "a playground shows its examples where no widget manager draws the controls"
