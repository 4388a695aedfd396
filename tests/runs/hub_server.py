"""A stand-in for the Hugging Face hub: models in memory, by the part of its API that we use."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

TOKEN = "hf_made_up"


class Hub(ThreadingHTTPServer):
    """Attributes: ``models`` holds the files of each by name, ``private`` whether it is one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        self.server.requests.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            return self._answer({"warnings": [], "errors": []})
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self._answer({"error": "Invalid username or password."}, status=401)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization'] or 'me'}/{asked['name']}"
            self.server.models.setdefault(name, {})
            self.server.private[name] = asked.get("visibility") == "private"
            return self._answer({"url": f"{self.server.address}/{name}", "name": name})
        if re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._answer({"files": files})
        commit = re.fullmatch(r"/api/models/(.+)/commit/main", path)
        assert commit, path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.models[commit[1]][line["value"]["path"]] = content
        url = f"{self.server.address}/{commit[1]}/commit/{self._sha(commit[1])}"
        return self._answer({"commitUrl": url, "commitOid": self._sha(commit[1])})

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        path = self.path.partition("?")[0]
        found = re.fullmatch(r"/api/models/(.+?/.+?)(/tree/\w+|/revision/\w+)?", path)
        if found and found[1] in self.server.models:
            files = self.server.models[found[1]]
            if (found[2] or "").startswith("/tree"):
                listed = [
                    {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
                    for name, content in files.items()
                ]
                return self._answer(listed)
            siblings = [{"rfilename": name} for name in files]
            answer = {"id": found[1], "sha": self._sha(found[1]), "siblings": siblings}
            return self._answer(answer)
        file = re.fullmatch(r"/(.+?/.+?)/resolve/\w+/(.+)", path)
        if file and file[2] in self.server.models.get(file[1], {}):
            return self._send(self.server.models[file[1]][file[2]], self._sha(file[1]))
        headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        return self._answer({"error": "Repository not found"}, status=404, headers=headers)

    do_HEAD = do_GET

    def _sha(self, name: str) -> str:
        digest = hashlib.sha1()
        for file, content in sorted(self.server.models[name].items()):
            digest.update(file.encode() + content)
        return digest.hexdigest()

    def _answer(
        self, content: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Type": "application/json", **(headers or {})}
        self._finish(body, headers)

    def _send(self, body: bytes, sha: str) -> None:
        self.send_response(200)
        self._finish(body, {"ETag": f'"{_oid(body)}"', "X-Repo-Commit": sha})

    def _finish(self, body: bytes, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def hub_server(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """Serve a hub, and let huggingface_hub use it with a token and a cache of its own."""
    from huggingface_hub import constants

    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
