"""A bundle for a room without a network: packages, data, weights and notebooks in one folder.

The packages are those that pip would install here, downloaded one after the other, so that an interrupted run goes on
where it stopped. Run it once more on another system, into the same folder, and the bundle serves both.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from xlbook import course, editions, room, sources
from xlbook.runtime import cache_dir, progress

EXTRA = "lab"
SOURCE_FILES = ("pyproject.toml", "README.md", "LICENSE", "xlbook")
"""What setuptools needs to build this package's wheel."""
README = """xlbook: the course for a room without a network

Install (Python {python} on {system}, nothing else is needed):

    python install.py            makes the folder xlbook-course
    python install.py FOLDER     makes another folder

Then open Jupyter as the last lines say. To read without installing anything: site/index.html.
"""


class PackError(RuntimeError):
    """The bundle cannot be made; the message says what to do."""


def pack(folder: Path, *, torch_index: str | None = None, needed: Sequence[str] = sources.NEEDED) -> Path:
    """Make or complete a bundle and return its folder.

    Args:
        folder: the bundle.
        torch_index: address of a package index to take torch from, such as that of the small CPU builds.
        needed: sources whose cache entries are packed.

    Raises:
        PackError: if a source is not in the cache, pip fails, or the folder cannot be written.
    """
    folder = Path(folder)
    check_cache(needed)
    root = course.notebooks_folder().parent
    try:
        packages = folder / "packages"
        packages.mkdir(parents=True, exist_ok=True)
        drop_broken(packages)
        room.say(1, "this package")
        own = own_wheel(root, packages)
        room.say(2, "what it needs")
        if torch_index:
            download_torch(root, packages, torch_index)
        wanted = resolve(own, root, packages)
        room.say(3, f"{len(wanted)} packages")
        download(wanted, packages)
        room.say(4, "data and weights")
        copy_entries(needed, folder / "cache" / "sources")
        room.say(5, "notebooks and site")
        add_course(folder)
        write_record(folder, own)
    except OSError as error:
        raise PackError(f"{folder} cannot be written ({error.strerror or error}). Name another folder.") from error
    return folder


def check_cache(names: Sequence[str]) -> None:
    """Raise :class:`PackError` unless the cache has these sources, whole."""
    missing = [name for name in names if not sources.is_cached(name)]
    if missing:
        raise PackError(f"Not in the cache {cache_dir()}: {', '.join(missing)}. Run: xlbook fetch {' '.join(missing)}")


def run_pip(*arguments: str | Path) -> None:
    """Run pip with the user's own settings.

    Raises:
        PackError: if it fails, with its last lines.
    """
    command = [sys.executable, "-m", "pip", *map(str, arguments), "--disable-pip-version-check"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    if done.returncode:
        tail = "\n  ".join(
            [x for x in done.stdout.strip().splitlines() if "WARNING" not in x and "notice" not in x][-4:]
        )
        raise PackError(
            f"pip {arguments[0]} {arguments[-1]} failed. Packing needs the package index: set PIP_INDEX_URL to a "
            f"mirror or PIP_PROXY to your proxy, then run the same command again; what is there is kept."
            f"\npip said:\n  {tail}"
        )


def own_wheel(root: Path, packages: Path) -> Path:
    """Build the wheel of this package from a clean copy of its source and return the file."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "source"
        copy.mkdir()
        for name in SOURCE_FILES:
            if (root / name).is_dir():
                shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(root / name, copy / name)
        run_pip("wheel", "--quiet", "--no-deps", "--wheel-dir", scratch, copy)
        (built,) = Path(scratch).glob("xlbook-*.whl")
        for old in packages.glob("xlbook-*.whl"):
            old.unlink()
        return Path(shutil.move(built, packages / built.name))


def download_torch(root: Path, packages: Path, index: str) -> None:
    """Download torch, without what it needs, from an index of its own."""
    if not list(packages.glob("torch-*.whl")):
        run_pip("download", "--quiet", "--no-deps", "--dest", packages, "--index-url", index, *pins(root), "torch")


def pins(root: Path) -> list[str]:
    """Return pip's option for the tested versions."""
    file = root / "constraints.txt"
    return ["-c", str(file)] if file.exists() else []


def resolve(own: Path, root: Path, packages: Path) -> list[str]:
    """Ask pip what it would install for this package, and return ``name==version`` of all but the package itself."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        options = ["--dry-run", "--ignore-installed", "--quiet", "--find-links", packages, "--report", report]
        run_pip("install", *options, *pins(root), f"{own}[{EXTRA}]")
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    names = [(one["metadata"]["name"], one["metadata"]["version"]) for one in found]
    if cuda := [name for name, _ in names if name.startswith("nvidia-")]:
        print(
            f"  torch brings {len(cuda)} CUDA packages, several GB. For the small CPU build start again with "
            "--torch-index https://download.pytorch.org/whl/cpu"
        )
    return sorted(f"{name}=={version}" for name, version in names if name != "xlbook")


def download(wanted: Sequence[str], packages: Path) -> None:
    """Bring one package after the other as a wheel; those that are there are kept."""
    missing = [pin for pin in wanted if not has_wheel(pin, packages)]
    if len(missing) < len(wanted):
        print(f"  {len(wanted) - len(missing)} are there already")
    for pin in progress(missing, label="packages", unit="package"):
        run_pip("wheel", "--quiet", "--no-deps", "--wheel-dir", packages, "--find-links", packages, pin)


def has_wheel(pin: str, packages: Path) -> bool:
    """Return whether a folder has a wheel of ``name==version``.

    >>> has_wheel("torch==2.13.0", Path("nowhere"))
    False
    """
    name, _, version = pin.partition("==")
    wanted = (plain(name), version)
    return any((plain(p[0]), p[1]) == wanted for p in (f.name.split("-") for f in packages.glob("*.whl")))


def drop_broken(packages: Path) -> None:
    """Delete wheels that were cut off; pip would stumble over them."""
    for file in packages.glob("*.whl"):
        if not zipfile.is_zipfile(file):
            file.unlink()


def plain(name: str) -> str:
    """Return a package's name in one spelling.

    >>> plain("Jupyter-Core")
    'jupyter_core'
    """
    return re.sub(r"[-_.]+", "_", name).lower()


def copy_entries(names: Sequence[str], target: Path) -> None:
    """Copy cache entries into the bundle, each at once, and check their hashes; whole ones are kept."""
    for name in names:
        folder = sources.wheel(name).folder
        if sources.entry_is_intact(target / folder):
            print(f"  {name}: there already")
            continue
        shutil.rmtree(target / folder, ignore_errors=True)
        part = target / f".{folder}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(cache_dir() / "sources" / folder, part)
        os.replace(part, target / folder)
        if not sources.entry_is_intact(target / folder):
            raise PackError(f"The copy of {name} in {target} is damaged: a bad disk? Try another one.")
        print(f"  {name}")


def add_course(folder: Path) -> None:
    """Put the learner's notebooks, the glossary, the site and the installer into the bundle."""
    with tempfile.TemporaryDirectory() as scratch:
        editions.build(Path(scratch), editions=("learner", "site"))
        for built, name in (("learner", "notebooks"), ("docs", "docs"), ("site", "site")):
            shutil.rmtree(folder / name, ignore_errors=True)
            shutil.copytree(Path(scratch) / built, folder / name)
    shutil.copy(room.__file__, folder / "install.py")


def read_targets(folder: Path) -> list[dict]:
    """Return the systems that the bundle serves already."""
    try:
        return json.loads((folder / "pack.json").read_text(encoding="utf-8"))["targets"]
    except (OSError, ValueError, KeyError):
        return []


def write_record(folder: Path, own: Path) -> None:
    """Write what the bundle holds; its presence says that the bundle is complete."""
    here = room.this_system()
    targets = [t for t in read_targets(folder) if t != here] + [here]
    chosen = sorted(f for part in ("packages", "notebooks", "docs", "site") for f in (folder / part).rglob("*"))
    files = {f.relative_to(folder).as_posix(): [f.stat().st_size, sources.sha256_of(f)] for f in chosen if f.is_file()}
    requirement = f"xlbook[{EXTRA}]=={own.name.split('-')[1]}"
    record = {"requirement": requirement, "targets": targets, "files": files}
    (folder / "README.txt").write_text(README.format(**here), encoding="utf-8")
    staged = folder / "pack.json.part"
    staged.write_text(json.dumps(record, indent=1), encoding="utf-8")
    os.replace(staged, folder / "pack.json")


def size(folder: Path) -> int:
    """Return the bytes of all files of a bundle."""
    return sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
