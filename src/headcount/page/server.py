"""The server of ``headcount serve``: summaries of a user's own texts, with any heads off.

It is made for one person on one machine. The models answer one request at a time, and a few more
may wait.

Requests that come from the page of another site are rejected: the Host header of a request by DNS
rebinding names another host, the Origin and Sec-Fetch-Site headers of a cross-site request another
site, and a form, which needs no permission to send across sites, cannot send JSON.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from headcount.config.schema import Config
from headcount.errors import ConfigError
from headcount.escape import printable
from headcount.heads.blocks import heads_of
from headcount.page.heads_off import generate_without
from headcount.page.html import ATTENTION, write_page
from headcount.page.payload import Page, PageRun, describe_document, scores
from headcount.training.decoding import encode_documents
from headcount.training.module import Summarizer

MAX_BYTES = 1_000_000  # of the body of a request
MAX_WAITING = 8  # waiting requests, including the one that is being answered
MAX_BEAMS = 16
SETTINGS = ("strategy", "num_beams", "max_tokens")  # of the section generation, for a request
STRATEGIES = ("greedy", "beam", "sample")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class RefusedError(Exception):
    """A request is rejected, with an HTTP status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(
    page: Page, runs: Sequence[PageRun], *, hosts: Sequence[str] | None, token: str = ""
) -> Starlette:
    """Return the server.

    Args:
        page: the page that is served, which includes the texts of its documents.
        runs: the runs whose models answer.
        hosts: legal values of the Host header; None: any, for a server that is protected by a
            token.
        token: the token that requests must have; empty: none.
    """
    server = PageServer(page, runs, hosts=hosts, token=token)
    routes = [
        Route("/", server.show, methods=["GET"]),
        Route("/summarize", server.json_endpoint(server.summarize), methods=["POST"]),
        Route("/heads-off", server.json_endpoint(server.heads_off), methods=["POST"]),
    ]
    return Starlette(routes=routes)


class PageServer:
    """Checks requests and answers them; see ``make_app`` for the arguments."""

    def __init__(
        self, page: Page, runs: Sequence[PageRun], *, hosts: Sequence[str] | None, token: str
    ) -> None:
        self.page = page
        self.runs = runs
        self.hosts = hosts
        self.token = token
        # The models and their configs are shared, so one request is answered at a time.
        self.lock = asyncio.Lock()
        self.waiting = 0

    async def show(self, request: Request) -> Response:
        """Return the page."""
        try:
            self._check_sender(request, request.query_params.get("token", ""))
        except RefusedError as refused:
            return _error(refused.status, str(refused))
        content = {**self.page.content, "live": True}
        html = write_page(ATTENTION, content, self.page.maps, live=True)
        return HTMLResponse(html, headers=HEADERS)

    def json_endpoint(
        self, work: Callable[[dict[str, Any]], Any]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that checks a request, waits for its turn and answers in JSON."""

        async def endpoint(request: Request) -> Response:
            try:
                self._check_sender(request, request.headers.get("x-token", ""))
                body = await _read_json(request)
                answer = await self._in_turn(request, work, body)
                return JSONResponse(answer, headers=HEADERS)
            except RefusedError as refused:
                return _error(refused.status, str(refused))
            except ConfigError as error:
                return _error(400, str(error))

        return endpoint

    def _check_sender(self, request: Request, token: str) -> None:
        """Raise RefusedError if a request comes from another site or has not the token."""
        host = request.headers.get("host", "")
        if self.hosts is not None and host not in self.hosts:
            raise RefusedError(403, f"Host {host} is not served; legal: {', '.join(self.hosts)}")
        if request.headers.get("origin", f"http://{host}") != f"http://{host}":
            raise RefusedError(403, "requests of other sites are rejected")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise RefusedError(403, "requests of other sites are rejected")
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            raise RefusedError(401, "the token is missing or wrong; open the address as printed")

    async def _in_turn(
        self, request: Request, work: Callable[[dict[str, Any]], Any], body: dict[str, Any]
    ) -> Any:
        """Call ``work`` with the body of a request when all earlier requests are answered."""
        if self.waiting >= MAX_WAITING:
            raise RefusedError(503, f"{MAX_WAITING} requests are waiting; try again in a moment")
        self.waiting += 1
        try:
            async with self.lock:
                if await request.is_disconnected():
                    raise RefusedError(499, "the client has closed the connection")
                return await run_in_threadpool(work, body)
        finally:
            self.waiting -= 1

    def summarize(self, body: dict[str, Any]) -> dict[str, Any]:
        """Summarize a text with each model, and return the summaries with their attention."""
        text = _text(body)
        answers = []
        for run in self.runs:
            with _settings(run.summarizer, body.get("settings")):
                encoded = encode_documents(run.summarizer, [text])
                [hypothesis] = generate_without(run.summarizer, encoded)
                document, packed = describe_document(
                    run.summarizer, encoded, 0, hypothesis, name=""
                )
            answers.append({"document": document, "packed": packed})
        return {"runs": answers}

    def heads_off(self, body: dict[str, Any]) -> tuple[str, list[float] | None]:
        """Return the summary of a text by one model without some of its heads, and its scores."""
        text = _text(body)
        number: Any = body.get("run")
        if not _is_integer(number) or not 0 <= number < len(self.runs):
            raise ConfigError(f"run={number}: no such run; legal: 0 to {len(self.runs) - 1}")
        summarizer = self.runs[number].summarizer
        heads = _texts(body, "heads")
        legal = {str(head) for head in heads_of(summarizer.model)}
        if unknown := set(heads) - legal:
            raise ConfigError(f"heads={min(unknown)}: no such head; legal: SITE.LAYER.HEAD")

        with _settings(summarizer, body.get("settings")):
            encoded = encode_documents(summarizer, [text])
            [hypothesis] = generate_without(summarizer, encoded, heads)
        summary = summarizer.text_of(hypothesis)
        references = [each for each in _texts(body, "references") if each.strip()]
        return printable(summary), scores(summarizer, summary, references)


async def _read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body of a request.

    Raises:
        RefusedError: the body is too large, not sent as JSON, or not an object.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RefusedError(415, "the content type is not application/json")

    # Counted as it arrives: the length that a header claims need not be true.
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BYTES:
            raise RefusedError(413, f"the text is too long; legal: up to {MAX_BYTES:,} bytes")

    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the request is not JSON") from None
    if not isinstance(body, dict):
        raise RefusedError(400, "the request is not a JSON object")
    return body


def _text(body: dict[str, Any]) -> str:
    text = body.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ConfigError("text: missing or blank; legal: a text that is not blank")
    # JSON can hold a lone surrogate, which is no character and which tokenizers reject.
    return text.encode("utf-8", "replace").decode("utf-8")


def _texts(body: dict[str, Any], name: str) -> list[str]:
    texts = body.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise ConfigError(f"{name}: not a list of texts")
    return texts


def _is_integer(value: Any) -> bool:
    # True and False are integers to Python.
    return isinstance(value, int) and not isinstance(value, bool)


@contextmanager
def _settings(summarizer: Summarizer, settings: Any) -> Iterator[None]:
    """Generate with other settings within a ``with`` statement.

    Args:
        summarizer: the summarizer whose config is changed.
        settings: an object with some of the keys ``SETTINGS``; None: nothing is changed.

    Raises:
        ConfigError: a setting is unknown or its value is not legal.
    """
    before = summarizer.config
    summarizer.config = _with_settings(summarizer.config, {} if settings is None else settings)
    try:
        yield
    finally:
        summarizer.config = before


def _with_settings(config: Config, settings: Any) -> Config:
    """Return a config with the generation settings of a request.

    Raises:
        ConfigError: a setting is unknown, or its value is not legal.
    """
    if not isinstance(settings, dict):
        raise ConfigError("settings: not an object")
    if unknown := settings.keys() - set(SETTINGS):
        raise ConfigError(f"settings.{min(unknown)}: unknown; legal: {', '.join(SETTINGS)}")
    strategy = settings.get("strategy", config.generation.strategy)
    num_beams = settings.get("num_beams", config.generation.num_beams)
    max_tokens = settings.get("max_tokens", config.generation.max_tokens)

    # The number of beams is limited: it decides how long the server is busy.
    if strategy not in (*STRATEGIES, config.generation.strategy):
        raise ConfigError(f"settings.strategy={strategy}; legal: {', '.join(STRATEGIES)}")
    if not _is_integer(num_beams) or not 1 <= num_beams <= MAX_BEAMS:
        raise ConfigError(f"settings.num_beams={num_beams}; legal: 1 to {MAX_BEAMS}")
    if not _is_integer(max_tokens) or max_tokens < 1:
        raise ConfigError(f"settings.max_tokens={max_tokens}; legal: at least 1")

    generation = replace(
        config.generation, strategy=strategy, num_beams=num_beams, max_tokens=max_tokens
    )
    return replace(config, generation=generation)


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status, headers=HEADERS)
