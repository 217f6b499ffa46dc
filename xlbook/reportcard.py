"""The assistant's report card: one row a chapter, accuracy on the natural test commands in every language."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from xlbook.figures import Html, table
from xlbook.languages import COURSE, SOURCE
from xlbook.runtime import cache_dir


def card_file() -> Path:
    """Return the file that the rows are kept in."""
    return cache_dir() / "report_card.json"


def rows() -> list[dict]:
    """Return all rows so far, in the order of the chapters."""
    try:
        stored = json.loads(card_file().read_text(encoding="utf-8"))
        return sorted(stored, key=lambda r: (r["chapter"], r["order"]))
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{card_file()} is damaged. Delete it and run the chapters again.") from None


def add(chapter: str, method: str, scores: Mapping[str, float], *, order: int = 0, profile: str = "laptop") -> None:
    """Add a row, or replace the one of the same chapter, method and profile.

    Args:
        chapter: two digits, such as ``06``.
        method: what was evaluated, in a few words.
        scores: language code -> accuracy between 0 and 1, for all course languages.
        order: place among the chapter's rows.
        profile: the profile that it was measured in.

    Raises:
        ValueError: if a course language is missing or a score is not a share.
    """
    if lacking := [c for c in COURSE if c not in scores]:
        raise ValueError(f"The report card needs every course language; missing: {', '.join(lacking)}.")
    if any(not 0 <= scores[c] <= 1 for c in COURSE):
        raise ValueError(f"Scores are shares between 0 and 1; received {dict(scores)}.")
    row = {"chapter": chapter, "method": method, "order": order, "profile": profile}
    row |= {"scores": {c: round(float(scores[c]), 4) for c in COURSE}}
    kept = rows()
    same = [i for i, r in enumerate(kept) if (r["chapter"], r["method"], r["profile"]) == (chapter, method, profile)]
    place = same[0] if same else len(kept)
    kept[place : place + 1] = [row]
    card_file().parent.mkdir(parents=True, exist_ok=True)
    staged = card_file().with_suffix(f".{os.getpid()}")
    staged.write_text(json.dumps(kept, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(staged, card_file())


def summary(scores: Mapping[str, float]) -> dict[str, float]:
    """Return English, the average of the other languages, and the worst of them."""
    others = {c: scores[c] for c in COURSE if c != SOURCE}
    return {SOURCE: scores[SOURCE], "others": float(np.mean(list(others.values()))), "worst": min(others.values())}


def show(chapter: str | None = None) -> Html:
    """Show the card as a table, all of it or one chapter's rows.

    Raises:
        ValueError: if there are no rows yet.
    """
    kept = [r for r in rows() if chapter in (None, r["chapter"])]
    if not kept:
        raise ValueError("The report card is empty; run chapter 00 first.")
    lines = []
    for r in kept:
        s = summary(r["scores"])
        method = r["method"] + ("" if r["profile"] == "laptop" else f" ({r['profile']})")
        lines.append({"chapter": r["chapter"], "method": method, **{c: r["scores"][c] for c in COURSE},
                      "avg of 9": s["others"], "worst": s["worst"]})  # fmt: skip
    return table(lines, "Report card: accuracy on the natural test commands", bold={"avg of 9": max, "worst": max})
