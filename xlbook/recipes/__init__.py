"""Long experiments whose results are stored: grids, seeds, everything that a chapter cannot run while one reads.

One module a chapter, ``chapter_NN.py``, whose ``rows(device)`` names the members of the experiment: each is a function
of the seed that returns scores. Results lie in ``xlbook/data/recipes/NN.json`` with date, seeds, hardware and versions.
A finished run is written at once, so that an interrupted recipe goes on where it stopped.
"""

from __future__ import annotations

import datetime
import importlib
import json
import os
import platform
import time
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from xlbook import runtime
from xlbook.runtime import did_you_mean


def results(number: str) -> dict:
    """Return the stored results of a recipe: ``{"about": …, "runs": [{"row", "seed", "seconds", "scores"}, …]}``.

    Raises:
        ValueError: if the chapter has no stored recipe.
    """
    file = files("xlbook") / "data" / "recipes" / f"{number}.json"
    if not file.is_file():
        raise ValueError(f"Chapter {number!r} has no stored recipe. Run: xlbook recipe {number}")
    return json.loads(file.read_text(encoding="utf-8"))


def by_row(number: str) -> dict[str, list[dict]]:
    """Return the stored runs of a recipe grouped by row, in the order in which the rows were run."""
    grouped: dict[str, list[dict]] = {}
    for one in results(number)["runs"]:
        grouped.setdefault(one["row"], []).append(one)
    return grouped


def chapters() -> tuple[str, ...]:
    """Return the numbers of the chapters that have a recipe.

    >>> "06" in chapters()
    True
    """
    names = (f.name for f in files("xlbook.recipes").iterdir())
    return tuple(sorted(n[len("chapter_") : -len(".py")] for n in names if n.startswith("chapter_")))


def run(number: str, *, seeds: int = 3, out: Path | None = None) -> Path:
    """Run a chapter's recipe and return the file with its results.

    Args:
        number: the chapter, such as ``06``.
        seeds: seeds for each row, counted from 0.
        out: the results file; an existing one is continued.

    Raises:
        ValueError: if there is no such recipe, or ``seeds`` is below 1.
    """
    if number not in chapters():
        raise ValueError(f"No recipe {number!r}. {did_you_mean(number, chapters())}")
    if seeds < 1:
        raise ValueError(f"seeds={seeds}: at least one seed is needed, three to say anything about noise.")
    rt = runtime.setup()
    file = out or Path(str(files("xlbook") / "data" / "recipes" / f"{number}.json"))
    stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"about": {}, "runs": []}
    recipe = importlib.import_module(f"xlbook.recipes.chapter_{number}")
    stored["about"] = about(rt, recipe.__doc__)
    done = {(r["row"], r["seed"]) for r in stored["runs"]}
    rows = recipe.rows(rt.device)
    todo = [(row, seed) for seed in range(seeds) for row in rows if (row, seed) not in done]
    for row, seed in runtime.progress(todo, label=f"recipe {number}", unit="run"):
        started = time.perf_counter()
        scores = rows[row](seed)
        seconds = round(time.perf_counter() - started, 1)
        stored["runs"].append({"row": row, "seed": seed, "seconds": seconds, "scores": scores})
        write(file, stored)
    write(file, stored)
    return file


def write(file: Path, stored: Mapping) -> None:
    """Write the results at once, so that a killed recipe leaves a whole file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(stored, indent=1), encoding="utf-8")
    os.replace(part, file)


def about(rt: runtime.Runtime, what: str) -> dict:
    """Return what one needs to know to compare results: date, machine, versions."""
    return {
        "what": what.strip().splitlines()[0],
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {rt.threads} thread(s), {rt.device}",
        "versions": runtime.versions(),
    }
