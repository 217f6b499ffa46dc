"""Repositories on the Hugging Face Hub: one pinned commit each, checked by hash, and errors that say what to do.

``huggingface_hub`` does the transfer (cache, resuming, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, proxies). It compares sizes
but not hashes, so this module reads every file once more: a mirror or a proxy that sends other bytes is noticed.
Only the named kinds of files are taken, never code.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from xlbook import sources
from xlbook.runtime import quiet
from xlbook.sources import SourceError

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Repository:
    """A repository at a pinned commit."""

    name: str
    """``owner/name``."""
    revision: str
    """Full commit hash, 40 hexadecimal digits."""
    kind: str = "model"
    """``model`` or ``dataset``."""
    patterns: tuple[str, ...] = ("*.json", "*.safetensors")
    """Files that may be taken."""
    weights: str | None = None
    """SHA-256 of ``model.safetensors``, where a source independent of the Hub's own listing states it."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.name) or self.kind not in ("model", "dataset"):
            raise ValueError(f"{self.kind} {self.name!r}: give owner/name, and model or dataset.")
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ValueError(f"Revision {self.revision!r} of {self.name} is no full commit hash, so it can move.")

    def __str__(self) -> str:
        return f"{self.name}@{self.revision[:8]}"

    @property
    def folder(self) -> str:
        """Where the repository lies in a folder that was brought: ``hub/owner--name-12digits``."""
        return f"hub/{self.name.replace('/', '--')}-{self.revision[:12]}"


def snapshot(repository: Repository, patterns: tuple[str, ...] | None = None) -> Path:
    """Return a folder with a repository's files: brought by the reader, from the cache, or fetched from the Hub.

    Args:
        repository: what to fetch.
        patterns: which files, if not all that the repository allows.

    Raises:
        xlbook.sources.SourceError: if the files cannot be had or have other hashes; a damaged file is not kept.
    """
    if (brought := brought_folder(repository)) is not None:
        return brought
    from huggingface_hub import snapshot_download

    patterns = patterns or repository.patterns
    with explained(repository), silenced():
        options = {"repo_type": repository.kind, "revision": repository.revision}
        folder = Path(snapshot_download(repository.name, allow_patterns=list(patterns), **options))
    check(folder, repository)
    return folder


def second_provider(name: str) -> Path:
    """Return a folder with the original of one of the course's wheels, which lies on the Hub.

    Args:
        name: a key of :data:`xlbook.sources.SOURCES`.

    Raises:
        xlbook.sources.SourceError: if the source is not on the Hub, or the Hub does not give it.
    """
    source = sources.wheel(name)
    if source.hub is None:
        raise SourceError(f"{name} has no second provider on the Hub.")
    return snapshot(Repository(*source.hub))


# --- without a network ------------------------------------------------------------------------------------------------


def brought_folder(repository: Repository) -> Path | None:
    """Return the repository's folder below ``XLBOOK_WHEELS`` if there is one, whole and unchanged.

    Raises:
        xlbook.sources.SourceError: if a file in it was changed or is missing.
    """
    place = os.environ.get("XLBOOK_WHEELS")
    folder = Path(place) / repository.folder if place else None
    if folder is None or not folder.is_dir():
        return None
    if not sources.entry_is_intact(folder):
        raise SourceError(f"{folder} is damaged or incomplete; write it again: xlbook public --to {place}")
    return folder


def bring(repository: Repository, target: Path, patterns: tuple[str, ...] | None = None) -> Path:
    """Copy a repository's files into a folder for a room without a network, where ``XLBOOK_WHEELS`` names it.

    Returns:
        The folder of the repository below ``target``.
    """
    folder = snapshot(repository, patterns)
    with sources.explained_disk_errors(target):
        place = Path(target) / repository.folder
        place.parent.mkdir(parents=True, exist_ok=True)
        with sources.scratch_folder(place.parent, place.name) as scratch:
            shutil.copytree(folder, scratch / "copy")  # follows the cache's links
            sources.write_manifest(scratch / "copy", str(repository))
            shutil.rmtree(place, ignore_errors=True)
            os.replace(scratch / "copy", place)
    return place


# --- hashes -----------------------------------------------------------------------------------------------------------


def check(folder: Path, repository: Repository) -> None:
    """Compare every file of a snapshot with the hash that the Hub states for it, and the weights with the pinned one.

    The cache stores a file under its hash: SHA-256 for large files, git's SHA-1 for small ones. Where the cache holds
    plain copies (Windows without symbolic links) only the pinned hash is compared.

    Raises:
        xlbook.sources.SourceError: for a file with another hash. It is removed, so that the next call fetches it again.
    """
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        expected = {Path(os.readlink(file)).name} if file.is_symlink() else set()
        expected = {e for e in expected if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", e)}
        if file.name == WEIGHTS and repository.weights and file.parent == folder:
            expected.add(repository.weights)
        state = file.stat()
        for digest in sorted(expected):
            if (found := content_hash(file, len(digest), state.st_size, state.st_mtime_ns)) != digest:
                remove(file)
                raise SourceError(
                    f"{file.name} of {repository} has the hash {found[:12]}…, not {digest[:12]}…; it was not kept. "
                    "Try again, or set HF_ENDPOINT to another mirror (or unset it)."
                )


@lru_cache(maxsize=1024)
def content_hash(file: Path, digits: int, size: int, modified: int) -> str:
    """Return SHA-256 (64 digits) or git's blob hash (40 digits), computed once for a size and a time of change."""
    if digits == 64:
        return sources.sha256_of(file)
    return hashlib.sha1(b"blob %d\0" % size + file.read_bytes(), usedforsecurity=False).hexdigest()


def remove(file: Path) -> None:
    """Delete a file of a snapshot and the stored blob behind it."""
    blob = file.resolve()
    file.unlink()
    blob.unlink(missing_ok=True)


# --- errors -----------------------------------------------------------------------------------------------------------


@contextmanager
def silenced() -> Iterator[None]:
    """Show the Hub's progress bars to people only."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    off = are_progress_bars_disabled()
    if quiet():
        disable_progress_bars()
    try:
        yield
    finally:
        if quiet() and not off:
            enable_progress_bars()


@contextmanager
def explained(repository: Repository) -> Iterator[None]:
    """Turn whatever goes wrong on the way from the Hub into one line that says what to do."""
    earlier = sys.exception()
    try:
        with sources.explained_disk_errors(Path(os.environ.get("HF_HOME", "~/.cache/huggingface")), "HF_HOME"):
            yield
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"The Hub did not give {repository}: {remedy(error, repository, earlier)}") from error


def remedy(error: BaseException, repository: Repository, earlier: BaseException | None = None) -> str:
    """Return what went wrong and what to do, in one line; ``earlier`` is an error that was there before."""
    chain = list(causes(error, earlier))
    names = {cls.__name__ for e in chain for cls in type(e).__mro__}
    status = next((s for e in chain if (s := getattr(getattr(e, "response", None), "status_code", None))), None)
    place = f"https://huggingface.co/{'datasets/' * (repository.kind == 'dataset')}{repository.name}"
    bring_it = f"or bring the files: `xlbook public --to DIR` on a connected machine, XLBOOK_WHEELS=DIR here (before \
Python starts); looked for {repository.folder}."
    if "GatedRepoError" in names:
        return f"its authors ask you to accept their terms. Do so at {place}, then run: hf auth login"
    if "OfflineModeIsEnabled" in names:
        return f"HF_HUB_OFFLINE is set and the cache does not hold all of it. Unset HF_HUB_OFFLINE, {bring_it}"
    if "RevisionNotFoundError" in names:
        return "it has no such commit there. If HF_ENDPOINT names a mirror, unset it or name another."
    if "RepositoryNotFoundError" in names:
        return f"there is no such repository at {endpoint()}. If HF_ENDPOINT names a mirror, unset it or name another."
    if status == 429:
        wait = waiting_time(chain)
        return f"too many requests from this address. Wait {wait}, or set HF_ENDPOINT to a mirror."
    if status and status >= 500:
        return f"the server answered {status}. Try again later, or set HF_ENDPOINT to a mirror, {bring_it}"
    if names & {"TransportError", "ConnectionError"} or any(isinstance(e, socket.gaierror) for e in chain):
        why = " ".join(str(chain[-1]).split())[:120]
        return f"{endpoint()} could not be reached ({why}). Set HF_ENDPOINT to a mirror or HTTPS_PROXY to your proxy, \
{bring_it}"
    said = " ".join(str(error).split())[:300].rstrip(".")
    return f"{type(error).__name__}: {said}. Try again, set HF_ENDPOINT to a mirror, {bring_it}"


def waiting_time(chain: list[BaseException]) -> str:
    """Return how long the server asks to wait, in words."""
    for error in chain:
        headers = getattr(getattr(error, "response", None), "headers", {})
        if (seconds := headers.get("Retry-After", "")).isdigit():
            return f"{seconds} seconds"
    return "some minutes"


def causes(error: BaseException | None, earlier: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, the last one first, up to an earlier error."""
    seen = {id(earlier)}
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def endpoint() -> str:
    """Return the address that the Hub's library asks in this process."""
    from huggingface_hub import constants

    return constants.ENDPOINT
