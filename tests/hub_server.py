"""A stand-in for the Hugging Face Hub on this machine, in the Hub's own HTTP layout, with faults on demand.

Model and dataset repositories: `/api/{models,datasets}/NAME[/revision/REV]`, `/tree/REV`, `/paths-info/REV`, and
`[/datasets]/NAME/resolve/REV/PATH`. Large files (safetensors, parquet, gz) are answered by a redirect to a second
address that plays the content network and knows ranges; small ones directly, with git's blob hash as ETag.
"""

import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from dataclasses import dataclass, field

API = re.compile(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(revision|tree|paths-info)(?:/([^/]+)(?:/(.*))?)?)?$")
LARGE = (".safetensors", ".parquet", ".gz", ".bin")


def blob_hash(content: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """One repository at one commit."""

    revision: str
    files: dict[str, bytes]
    gated: bool = False
    later: "Repo | None" = None
    """What `main` holds by now, if its authors went on; otherwise `main` is this commit."""

    def entry(self, path: str) -> dict:
        """The listing's record of a file."""
        content = self.files[path]
        entry = {"type": "file", "path": path, "size": len(content), "oid": blob_hash(content)}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return entry

    def listing(self, below: str = "", *, recursive: bool) -> list[dict] | None:
        """Files and folders below a folder, as the Hub lists them; ``None`` if there is no such folder."""
        start = f"{below}/" if below else ""
        inside = [path for path in self.files if path.startswith(start)]
        folders = {start + "/".join(p) for path in inside for p in prefixes(path.removeprefix(start))}
        found = [{"type": "directory", "path": f, "size": 0, "oid": "0" * 40} for f in sorted(folders)]
        found += [self.entry(path) for path in sorted(inside)]
        if not recursive:
            found = [e for e in found if "/" not in e["path"].removeprefix(start)]
        return found or None


def prefixes(path: str) -> list[tuple[str, ...]]:
    """The folders above a path: `a/b/c` -> (a,), (a, b)."""
    parts = path.split("/")[:-1]
    return [tuple(parts[: n + 1]) for n in range(len(parts))]


@dataclass
class Fault:
    """What the server does instead, for the next ``times`` requests whose path matches."""

    path: str
    """Regular expression, searched in the path."""
    kind: str
    """`status` (answer with `value`), `cut` (send half, then hang up) or `corrupt` (other bytes, same length)."""
    value: int = 0
    times: int = 1
    headers: dict = field(default_factory=dict)


class HubServer:
    """Repositories by `(kind, name)`, requests that were made, and faults to come."""

    def __init__(self, repositories: dict[tuple[str, str], Repo] | None = None):
        self.repositories = repositories or {}
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str, str]] = []
        """Method, path and Range header of each request."""
        self.hub, self.network = self.start(answer_hub), self.start(answer_network)
        self.url, self.network_url = (f"http://127.0.0.1:{s.server_address[1]}" for s in (self.hub, self.network))

    def start(self, answer):
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_one(self):
                path = urllib.parse.urlsplit(self.path).path
                owner.asked.append((self.command, path, self.headers.get("Range") or ""))
                length = int(self.headers.get("Content-Length") or 0)
                self.sent = self.rfile.read(length) if length else b""
                fault = next((f for f in owner.faults if f.times and re.search(f.path, path)), None)
                if fault and (fault.kind == "status" or self.command == "GET"):
                    fault.times -= 1
                    if fault.kind == "status":
                        return give(self, b"{}", fault.value, fault.headers)
                    self.fault = fault.kind
                else:
                    self.fault = None
                answer(owner, self, path)

            do_GET = do_HEAD = do_POST = handle_one

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def close(self):
        for server in (self.hub, self.network):
            server.shutdown()
            server.server_close()

    def paths(self, method: str = "GET") -> list[str]:
        """The paths that were asked for."""
        return [path for verb, path, _ in self.asked if verb == method]


def give(handler, content: bytes, status: int = 200, headers: dict | None = None) -> None:
    """Send an answer; a `cut` handler sends half of it, a `corrupt` one changes a byte."""
    fault = getattr(handler, "fault", None)
    sent = content
    if fault == "corrupt" and content:
        sent = bytes([content[0] ^ 1]) + content[1:]
    if fault == "cut":
        sent = content[: len(content) // 2]
    handler.send_response(status)
    for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(sent)
        handler.wfile.flush()
    handler.close_connection = True


def refuse(handler, status: int, code: str, message: str, headers: dict | None = None) -> None:
    """Send one of the Hub's errors."""
    named = {"X-Error-Code": code, "X-Error-Message": message} | (headers or {})
    give(handler, json.dumps({"error": message}).encode(), status, named)


def answer_hub(owner: HubServer, handler, path: str) -> None:
    """The Hub itself: listings and metadata; large files are redirected."""
    api = re.match(
        r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs)(?:/([^/]+)(?:/(.*))?)?)?$", path
    )
    file = re.match(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$", path)
    if not api and not file:
        return refuse(handler, 404, "NotFound", "Sorry, we can't find the page you are looking for.")
    kind, name = (api[1], api[2]) if api else ("dataset" if file[1] else "model", file[2])
    repo = owner.repositories.get((kind, name))
    if repo is None:
        return refuse(handler, 401, "RepoNotFound", "Repository not found")
    revision = (api[4] if api else file[3]) or "main"
    if repo.later and revision in (repo.later.revision, "main"):
        repo = repo.later
    if revision not in (repo.revision, "main"):
        return refuse(handler, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
    if repo.gated and (file or api[3] == "tree"):
        return refuse(handler, 401, "GatedRepo", f"Access to {kind} {name} is restricted. You must be authenticated.")
    if file:
        return give_file(owner, handler, repo, urllib.parse.unquote(file[4]))
    if api[3] == "tree":
        recursive = "recursive=true" in handler.path.lower()
        entries = repo.listing(urllib.parse.unquote(api[5] or ""), recursive=recursive)
        if entries is None:
            return refuse(handler, 404, "EntryNotFound", "Entry not found")
        return give(handler, json.dumps(entries).encode())
    if api[3] == "paths-info":
        return give(handler, json.dumps(paths_info(repo, handler)).encode())
    info = {"_id": "0" * 24, "id": name, "sha": repo.revision, "private": False, "gated": repo.gated, "tags": [],
            "downloads": 0, "likes": 0, "siblings": [{"rfilename": f} for f in repo.files]}  # fmt: skip
    give(handler, json.dumps(info).encode(), headers={"X-Repo-Commit": repo.revision})


def paths_info(repo: Repo, handler) -> list[dict]:
    """Records of the files and folders that a POST names, in a form or as JSON."""
    text = handler.sent.decode()
    wanted = json.loads(text)["paths"] if text.startswith("{") else urllib.parse.parse_qs(text).get("paths", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    found = [repo.entry(p) for p in wanted if p in repo.files]
    folders = [p for p in wanted if any(f.startswith(p.rstrip("/") + "/") for f in repo.files)]
    return found + [{"type": "directory", "path": p, "size": 0, "oid": "0" * 40} for p in folders]


def give_file(owner: HubServer, handler, repo: Repo, path: str) -> None:
    """Answer `resolve`: small files with their content, large ones with a redirect."""
    commit = {"X-Repo-Commit": repo.revision}
    if path not in repo.files:
        message = json.dumps({"error": "Entry not found"}).encode()
        return give(
            handler, message, 404, commit | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
        )
    content = repo.files[path]
    if not path.endswith(LARGE):
        return give(
            handler, content, headers=commit | {"ETag": f'"{blob_hash(content)}"', "Content-Type": "text/plain"}
        )
    digest = hashlib.sha256(content).hexdigest()
    linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
    give(handler, b"", 302, commit | linked | {"Location": f"{owner.network_url}/cdn/{digest}"})


def answer_network(owner: HubServer, handler, path: str) -> None:
    """The content network: bytes by hash, whole or from an offset."""
    commits = [c for r in owner.repositories.values() for c in (r, r.later) if c]
    stored = {hashlib.sha256(content).hexdigest(): content for c in commits for content in c.files.values()}
    content = stored.get(path.removeprefix("/cdn/"))
    if content is None:
        return refuse(handler, 404, "NotFound", "no such object")
    if asked := re.match(r"bytes=(\d+)-$", handler.headers.get("Range") or ""):
        start = int(asked[1])
        span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return give(handler, content[start:], 206, span)
    give(handler, content, headers={"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"})


def serve(monkeypatch, folder, repositories: dict[tuple[str, str], Repo]) -> HubServer:
    """Start a server and point the Hub's library and `datasets` in this process at it, with a cache of their own."""
    import datasets
    from huggingface_hub import constants

    server = HubServer(repositories)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name, value in {
        "HF_ENDPOINT": server.url,
        "HF_HUB_OFFLINE": False,
        "HF_DATASETS_CACHE": folder / "datasets",
        "DOWNLOADED_DATASETS_PATH": folder / "datasets" / "downloads",
        "EXTRACTED_DATASETS_PATH": folder / "datasets" / "extracted",
    }.items():
        monkeypatch.setattr(datasets.config, name, value)
    return server
