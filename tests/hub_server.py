"""A stand-in for the Hugging Face Hub, on this machine: it keeps commits of whole files, and gives them out."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "hf_stand_in"


class Hub(ThreadingHTTPServer):
    """Repositories by name; each is a list of commits, and a commit its files by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, list[dict[str, bytes]]] = {}
        self.private: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


@contextlib.contextmanager
def pretending(monkeypatch: Any, cache: Path) -> Iterator[Hub]:
    """A hub that `huggingface_hub` takes for the real one, and a user who is logged in."""
    from huggingface_hub import close_session, constants

    with serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
        close_session()


def sha(number: int) -> str:
    """The name of a repository's commit of this number."""
    return hashlib.sha1(str(number).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._say({"error": "log in"}, status=401)
        if self.path == "/api/repos/create":
            asked = json.loads(data)
            repo = "/".join(filter(None, [asked.get("organization") or "owner", asked["name"]]))
            repo = asked["name"] if "/" in asked["name"] else repo
            if repo in self.server.repos:
                return self._say({"error": "exists", "url": f"{self.server.url}/{repo}"}, status=409)
            self.server.repos[repo] = []
            hidden = asked.get("private") or asked.get("visibility") == "private"  # by the client's version
            self.server.private |= {repo} if hidden else set()
            return self._say({"url": f"{self.server.url}/{repo}", "name": repo})
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main.*", self.path):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for f in json.loads(data)["files"]
            ]
            return self._say({"files": files})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main.*", self.path):
            lines = [json.loads(line)["value"] for line in data.splitlines() if b'"file"' in line]
            files = {f["path"]: base64.b64decode(f["content"]) for f in lines if "content" in f}
            commits = self.server.repos[found[1]]
            commits.append((commits[-1] if commits else {}) | files)
            name = sha(len(commits))
            url = f"{self.server.url}/{found[1]}/commit/{name}"
            return self._say({"success": True, "commitOid": name, "commitUrl": url, "hookOutput": ""})
        return self._say({})  # such as validate-yaml

    def do_HEAD(self) -> None:
        self._file()

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            return self._about()
        return self._file()

    def _about(self) -> None:
        path = self.path.removeprefix("/api/models/").partition("?")[0]
        repo, kind, revision = re.fullmatch(r"([^/]+/[^/]+)(?:/(revision|tree)/([^/]+).*)?", path).groups()
        if repo not in self.server.repos:
            return self._say({"error": "Repository not found"}, status=404, code="RepoNotFound")
        commit = self._commit(repo, revision or "main")
        if commit is None:
            return self._say({"error": "Invalid rev"}, status=404, code="RevisionNotFound")
        number, files = commit
        if kind == "tree":
            return self._say(
                [{"type": "file", "path": name, "size": len(d), "oid": _oid(d)} for name, d in files.items()]
            )
        siblings = [{"rfilename": name} for name in files]
        return self._say({"id": repo, "sha": sha(number), "siblings": siblings, "private": False, "tags": []})

    def _commit(self, repo: str, revision: str) -> tuple[int, dict[str, bytes]] | None:
        commits = self.server.repos[repo]
        names = {"main": len(commits)} | {sha(n): n for n in range(1, len(commits) + 1)}
        if revision not in names:
            return None
        return names[revision], commits[names[revision] - 1] if commits else {}

    def _file(self) -> None:
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if found is None:
            return self._say({"error": "Not found"}, status=404)
        repo, revision, name = found.groups()
        number, files = self._commit(repo, revision) or (0, {})
        if name not in files:
            return self._say({"error": "Entry not found"}, status=404, code="EntryNotFound")
        self._send(files[name], {"ETag": f'"{_oid(files[name])}"', "X-Repo-Commit": sha(number)})
        return None

    def _say(self, found: Any, *, status: int = 200, code: str = "") -> None:
        headers = {"Content-Type": "application/json", **({"X-Error-Code": code} if code else {})}
        self._send(json.dumps(found).encode(), headers, status)

    def _send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
