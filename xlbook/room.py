"""Install the course in a room without a network.

`xlbook pack DIR` copies this file into the bundle as ``install.py``. It runs before anything is installed, so it needs
nothing but Python: ``python install.py [FOLDER]``. What was done before is not done again: after an error, remove the
cause and start it again. Notebooks that are there already are never overwritten.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

CACHE_FOLDER = "from xlbook.runtime import cache_dir; print(cache_dir())"


class InstallError(RuntimeError):
    """The bundle cannot be installed; the message says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Install the bundle that this file lies in; return the exit code."""
    parser = argparse.ArgumentParser(description="Install the course from this bundle, without a network.")
    parser.add_argument(
        "folder", nargs="?", default="xlbook-course", help="where the course goes (default: %(default)s)"
    )
    parser.add_argument("--bundle", default=Path(__file__).resolve().parent, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--no-check", action="store_true", help="do not run `xlbook doctor --workshop` at the end")
    chosen = parser.parse_args(arguments)
    try:
        return install(Path(chosen.bundle), Path(chosen.folder).expanduser().resolve(), check=not chosen.no_check)
    except InstallError as error:
        print(f"Error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"Error: {error}. Free some disk space or name another folder.", file=sys.stderr)
    return 1


def install(bundle: Path, folder: Path, *, check: bool = True) -> int:
    """Install a bundle into a folder.

    Args:
        bundle: the folder that ``xlbook pack`` wrote.
        folder: gets ``.venv``, ``notebooks``, ``docs`` and ``site``.
        check: run the pre-flight at the end.

    Returns:
        The exit code: 0, or that of the pre-flight.

    Raises:
        InstallError: if the bundle is for another system, is damaged, or pip fails.
    """
    record = read_record(bundle)
    say(1, "the bundle")
    check_target(record["targets"])
    check_files(bundle, record["files"])
    say(2, f"a virtual environment in {folder / '.venv'}")
    python = make_environment(folder / ".venv")
    say(3, "the packages, without a network (a few minutes)")
    run_pip(python, bundle / "packages", record["requirement"])
    cache = Path(
        subprocess.run([python, "-c", CACHE_FOLDER], capture_output=True, text=True, check=True).stdout.strip()
    )
    say(4, f"data and weights into {cache}")
    copy_cache(bundle / "cache" / "sources", cache / "sources")
    say(5, f"notebooks into {folder}")
    copy_course(bundle, folder)
    command = python.with_name("xlbook" + python.suffix)
    print(f"\nReady. Start with:\n  {python.with_name('jupyter' + python.suffix)} lab {folder / 'notebooks'}")
    if not check:
        return 0
    print("\nThe pre-flight, which also converts the encoder once:", flush=True)
    return subprocess.run([command, "doctor", "--workshop"], cwd=folder).returncode


def say(step: int, what: str) -> None:
    """Tell which step begins."""
    print(f"[{step}/5] {what}", flush=True)


def read_record(bundle: Path) -> dict:
    """Return what ``xlbook pack`` recorded about the bundle.

    Raises:
        InstallError: if there is no record, because packing did not end.
    """
    try:
        return json.loads((bundle / "pack.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InstallError(
            f"{bundle} has no readable pack.json, so packing did not end. Run `xlbook pack {bundle}` again."
        ) from None


def this_system() -> dict[str, str]:
    """Return what wheels depend on: Python version, operating system, processor."""
    return {
        "python": ".".join(map(str, sys.version_info[:2])),
        "system": platform.system(),
        "machine": platform.machine(),
    }


def check_target(targets: list[dict]) -> None:
    """Raise :class:`InstallError` unless the bundle has wheels for this Python on this system."""
    here = this_system()
    if here not in targets:
        names = "; ".join(f"Python {t['python']} on {t['system']} {t['machine']}" for t in targets)
        raise InstallError(
            f"This is Python {here['python']} on {here['system']} {here['machine']}; the bundle was packed for: "
            f"{names}. Start install.py with such a Python, or run `xlbook pack` once more on a machine like this one, "
            "into the same folder."
        )


def check_files(bundle: Path, files: dict[str, list]) -> None:
    """Raise :class:`InstallError` if a file of the bundle is missing or is not the one that was packed."""
    lost = [name for name in files if not (bundle / name).is_file()]
    if lost:
        raise InstallError(f"{len(lost)} file(s) of the bundle are missing, the first: {lost[0]}. Copy it again.")
    for name, (size, digest) in files.items():
        with open(bundle / name, "rb") as stream:
            same = (
                os.fstat(stream.fileno()).st_size == size
                and hashlib.file_digest(stream, "sha256").hexdigest() == digest
            )
        if not same:
            raise InstallError(f"{name} is damaged. Copy the bundle again.")


def make_environment(folder: Path) -> Path:
    """Make a virtual environment, or keep the one that is there, and return its Python."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    return python


def run_pip(python: Path, packages: Path, requirement: str) -> None:
    """Install a requirement from a folder of wheels and from nowhere else.

    Raises:
        InstallError: if pip fails, with its last lines.
    """
    command = [python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", packages, requirement]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", env=environment
    )
    if done.returncode:
        tail = "\n  ".join(done.stdout.strip().splitlines()[-4:])
        raise InstallError(f"pip could not install from {packages}. Pack again, or copy again.\npip said:\n  {tail}")


def copy_cache(packed: Path, cache: Path) -> None:
    """Copy the entries of the bundle's cache, each at once; entries that are there already are kept."""
    for entry in sorted(p for p in packed.iterdir() if p.is_dir()):
        target = cache / entry.name
        if (target / "manifest.json").exists():
            print(f"  {entry.name}: there already", flush=True)
            continue
        part = cache / f".{entry.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(entry, part)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
        print(f"  {entry.name}", flush=True)


def copy_course(bundle: Path, folder: Path) -> None:
    """Copy notebooks, glossary and site; a file that is there already may hold somebody's work and is kept."""
    for part in ("notebooks", "docs", "site"):
        for file in sorted(f for f in (bundle / part).rglob("*") if f.is_file()):
            target = folder / file.relative_to(bundle)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy2(file, target)


if __name__ == "__main__":
    sys.exit(main())
