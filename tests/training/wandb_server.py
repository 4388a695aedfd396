"""A stand-in for the W&B server on 127.0.0.1.

Answers what W&B 0.31 asks, keeps what it is sent, fails when told to.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import Any

KEY = "0123456789" * 4  # the length of one that W&B takes


class WandbServer:
    """What a W&B server knows; ``serving`` answers for it.

    Attributes:
        url: for WANDB_BASE_URL.
        runs: for the id of each run what it was created with: project, entity, displayName,
            groupName, tags, config.
        rows: for the id of each run its history, a row a line.
        tables: names of the tables and other artifacts that came whole.
        status: of every answer; 401 is what a key that nobody has gets.
        silent: do not answer at all.
        commands: what an agent of a sweep is told to run at each heartbeat: ``{"model.num_heads":
            4}``; then to exit.
    """

    def __init__(self) -> None:
        self.url = ""
        self.runs: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.tables: list[str] = []
        self.status = 200
        self.silent = False
        self.commands: list[dict[str, Any]] = []

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """Return what a server answers to a request."""
        if stream := re.fullmatch(r"/files/.*/(.*)/file_stream", path):
            history = (json.loads(body).get("files") or {}).get(
                "wandb-history.jsonl", {"offset": 0, "content": []}
            )
            end = history["offset"] + len(history["content"])
            self.rows.setdefault(stream[1], [])[history["offset"] : end] = map(
                json.loads, history["content"]
            )
        if not path.endswith("/graphql"):
            return {}
        asked = json.loads(body)
        name = re.search(r"(?:query|mutation) (\w+)", asked["query"])
        assert name is not None
        return {"data": self.ask(name[1], asked.get("variables") or {})}

    def ask(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return what a server answers to a GraphQL query."""
        upload = {"uploadUrl": f"{self.url}/upload", "uploadHeaders": []}
        manifest = {"artifactManifest": {"id": "m", "file": {"id": "f", **upload}}}
        match name:
            case "UpsertBucket":
                inserted = given["name"] not in self.runs
                run = self.runs.setdefault(given["name"], {})
                run |= {key: value for key, value in given.items() if value is not None}
                owner = {"id": "e", "name": given["entity"] or "me"}
                project = {"id": "p", "name": given["project"], "entity": owner}
                return {
                    "upsertBucket": {
                        "bucket": {**self.bucket(given["name"]), "project": project},
                        "inserted": inserted,
                    }
                }
            case "RunResumeStatus":
                bucket = self.bucket(given["name"]) if given["name"] in self.runs else None
                return {
                    "model": {
                        "id": "p",
                        "name": given["project"],
                        "entity": {"id": "e", "name": "me"},
                        "bucket": bucket,
                    }
                }
            case "CreateRunFiles":
                files = [
                    {"name": file, "uploadUrl": f"{self.url}/upload"} for file in given["files"]
                ]
                return {
                    "createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}
                }
            case "CreateArtifact":
                self.tables.append(given["input"]["artifactCollectionName"])
                artifact = {
                    "id": "a",
                    "state": "PENDING",
                    "artifactSequence": {"latestArtifact": None},
                }
                return {"createArtifact": {"artifact": artifact}}
            case "CreateArtifactManifest" | "UpdateArtifactManifest":
                return {name[0].lower() + name[1:]: manifest}
            case "CreateArtifactFiles":
                node = {
                    "storagePath": "x",
                    **upload,
                    "uploadMultipartUrls": None,
                    "artifact": {"id": "a"},
                }
                edges = [{"node": node} for _ in given["input"]["artifactFiles"]]
                return {"createArtifactFiles": {"files": {"edges": edges}}}
            case "CreateAgent":
                return {"createAgent": {"agent": {"id": "agent"}}}
            case "Heartbeat":
                return {
                    "agentHeartbeat": {
                        "agent": {"id": "agent"},
                        "commands": json.dumps([self.command()]),
                    }
                }
        viewer = {
            "id": "u",
            "entity": "me",
            "username": "me",
            "email": "",
            "flags": "{}",
            "teams": {"edges": []},
        }
        sweep = {
            "id": "s",
            "name": "sweep",
            "state": "RUNNING",
            "config": "{}",
            "runs": {"edges": []},
        }
        return {
            "Viewer": {"viewer": viewer},
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
            "OrganizationCoreWeaveOrganizationID": {"entity": {"organization": None}},
            "XXHashDigestsEnabled": {"entity": {"xxhashDigestsEnabled": False}},
            "ClientIDMapping": {"clientIDMapping": {"serverID": "a"}},
            "ArtifactType": {"project": {"artifact": None}},
            "CommitArtifact": {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}},
            "SweepWithRuns": {"project": {"sweep": sweep}},
        }[name]

    def bucket(self, run: str) -> dict[str, Any]:
        """Return what a server tells of a run."""
        lines, name = self.rows.get(run, []), self.runs[run].get("displayName")
        counts = {"historyLineCount": len(lines), "logLineCount": 0, "eventsLineCount": 0}
        tails = {
            "historyTail": json.dumps([json.dumps(line) for line in lines[-1:]]),
            "eventsTail": "[]",
        }
        texts = {
            "config": "{}",
            "summaryMetrics": "{}",
            "wandbConfig": '{"t": 1}',
            "notes": "",
            "description": "",
        }
        return {
            "id": run,
            "name": run,
            "displayName": name,
            "sweepName": None,
            "tags": [],
            **counts,
            **tails,
            **texts,
        }

    def command(self) -> dict[str, Any]:
        """Return what an agent is to do next."""
        if not self.commands:
            return {"type": "exit"}
        settings = {key: {"value": value} for key, value in self.commands.pop(0).items()}
        return {
            "type": "run",
            "run_id": f"sweep-run-{len(self.commands)}",
            "program": "train",
            "args": settings,
        }


@contextmanager
def serving(server: WandbServer, port: int = 0) -> Iterator[None]:
    """Answer for a server; afterwards its port is closed."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            while server.silent:
                sleep(0.1)
            status, found = server.status, {"errors": [{"message": "refused"}]}
            if status == 200:
                try:
                    found = server.answer(self.path, body)
                except (
                    KeyError
                ) as unknown:  # W&B would ask again and again where a connection breaks
                    status, found = (
                        400,
                        {"errors": [{"message": f"this stand-in has no answer to {unknown}"}]},
                    )
            content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing of a client that went away."""

    with Quiet(("127.0.0.1", port), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield
        finally:
            http.shutdown()
