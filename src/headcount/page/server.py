"""The page of ``headcount serve``: a text box, and any heads off, answered by the models at once.

Made for one person on one machine. The models answer one request at a time; a few more may wait.
Requests that another site's page has a browser send are refused: by the Host header, which a
rebound name does not have right, by the Origin header, and by a content type that a form cannot
send.
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

from headcount.errors import ConfigError
from headcount.escape import printable
from headcount.heads.blocks import heads_of
from headcount.page.heads_off import generate_without
from headcount.page.html import ATTENTION, write_page
from headcount.page.payload import (
    Page,
    PageRun,
    describe_document,
    encode,
    scores,
    without_references,
)
from headcount.training.module import Summarizer

MAX_BYTES = 1_000_000  # of a request
MAX_WAITING = 8  # requests, the one that is answered included
MAX_BEAMS = 16
SETTINGS = ("strategy", "num_beams", "max_tokens")
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
    """A request that is not answered, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(
    page: Page, runs: Sequence[PageRun], *, hosts: Sequence[str] | None, token: str = ""
) -> Starlette:
    """Return the server.

    Args:
        page: what it shows at first, with whole texts.
        runs: the models that answer.
        hosts: values of the Host header that are answered; None: any, with the token.
        token: that requests must have; empty: none.
    """
    server = PageServer(page, runs, hosts=hosts, token=token)
    routes = [
        Route("/", server.show, methods=["GET"]),
        Route("/summarize", server.answering(server.summarize), methods=["POST"]),
        Route("/heads-off", server.answering(server.heads_off), methods=["POST"]),
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
        self.lock = asyncio.Lock()
        self.waiting = 0

    async def show(self, request: Request) -> Response:
        """Answer with the page."""
        try:
            self._check_sender(request, request.query_params.get("token", ""))
        except RefusedError as refused:
            return _error(refused.status, str(refused))
        content = {**self.page.content, "live": True}
        html = write_page(ATTENTION, content, self.page.maps, live=True)
        return HTMLResponse(html, headers=HEADERS)

    def answering(
        self, work: Callable[[dict[str, Any]], Any]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that checks a request, waits for its turn and answers in JSON."""

        async def answer(request: Request) -> Response:
            try:
                self._check_sender(request, request.headers.get("x-token", ""))
                asked = await _read_json(request)
                return JSONResponse(await self._in_turn(request, work, asked), headers=HEADERS)
            except RefusedError as refused:
                return _error(refused.status, str(refused))
            except ConfigError as error:
                return _error(400, str(error))

        return answer

    def _check_sender(self, request: Request, token: str) -> None:
        host = request.headers.get("host", "")
        if self.hosts is not None and host not in self.hosts:
            raise RefusedError(403, f"Host {host} is not served; legal: {', '.join(self.hosts)}")
        if request.headers.get("origin", f"http://{host}") != f"http://{host}":
            raise RefusedError(403, "requests of other sites are refused")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise RefusedError(403, "requests of other sites are refused")
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            raise RefusedError(401, "the token is missing or wrong; open the address as printed")

    async def _in_turn(
        self, request: Request, work: Callable[[dict[str, Any]], Any], asked: dict[str, Any]
    ) -> Any:
        """Answer one request at a time."""
        if self.waiting >= MAX_WAITING:
            raise RefusedError(503, f"{MAX_WAITING} requests are waiting; try again in a moment")
        self.waiting += 1
        try:
            async with self.lock:
                if await request.is_disconnected():
                    raise RefusedError(499, "nobody waits for this answer any more")
                return await run_in_threadpool(work, asked)
        finally:
            self.waiting -= 1

    def summarize(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Summarize a text with each model, and explain the summaries."""
        text = _text(asked)
        answers = []
        for run in self.runs:
            with _settings(run.summarizer, asked.get("settings")):
                encoded = encode(run.summarizer, without_references(["pasted"], [text]))
                [hypothesis] = generate_without(run.summarizer, encoded)
                document, packed = describe_document(
                    run.summarizer, encoded, 0, hypothesis, name=""
                )
            answers.append({"document": document, "packed": packed})
        return {"runs": answers}

    def heads_off(self, asked: dict[str, Any]) -> tuple[str, list[float] | None]:
        """Summarize a text with one model without some of its heads."""
        text = _text(asked)
        number: Any = asked.get("run")
        if not _is_integer(number) or not 0 <= number < len(self.runs):
            raise ConfigError(f"run={number}: no such run; legal: 0 to {len(self.runs) - 1}")
        summarizer = self.runs[number].summarizer
        heads = _texts(asked, "heads")
        legal = {str(head) for head in heads_of(summarizer.model)}
        if unknown := set(heads) - legal:
            raise ConfigError(f"heads={min(unknown)}: no such head; legal: SITE.LAYER.HEAD")

        with _settings(summarizer, asked.get("settings")):
            encoded = encode(summarizer, without_references(["pasted"], [text]))
            [hypothesis] = generate_without(summarizer, encoded, heads)
        summary = summarizer.text_of(hypothesis)
        references = [each for each in _texts(asked, "references") if each.strip()]
        return printable(summary), scores(summarizer, summary, references)


async def _read_json(request: Request) -> dict[str, Any]:
    """Return the object that a request holds.

    Raises:
        RefusedError: it is too large, not sent as JSON, or no object.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RefusedError(415, "the content type is not application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise RefusedError(413, f"the text is too long; legal: up to {MAX_BYTES:,} bytes")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the request is not JSON") from None
    if not isinstance(asked, dict):
        raise RefusedError(400, "the request is not a JSON object")
    return asked


def _text(asked: dict[str, Any]) -> str:
    text = asked.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ConfigError("text: there is none; legal: a text that is not blank")
    # A lone surrogate is no character, and no tokenizer takes it.
    return text.encode("utf-8", "replace").decode("utf-8")


def _texts(asked: dict[str, Any], name: str) -> list[str]:
    texts = asked.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise ConfigError(f"{name}: not a list of texts")
    return texts


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@contextmanager
def _settings(summarizer: Summarizer, asked: Any) -> Iterator[None]:
    """Generate with other settings within a ``with`` statement.

    Args:
        summarizer: its config is changed.
        asked: ``strategy``, ``num_beams`` and ``max_tokens`` of the section ``generation``, as far
            as they are there; None: nothing is changed.

    Raises:
        ConfigError: a setting is unknown or its value is not legal.
    """
    before = summarizer.config
    summarizer.config = _with_settings(summarizer, {} if asked is None else asked)
    try:
        yield
    finally:
        summarizer.config = before


def _with_settings(summarizer: Summarizer, asked: Any) -> Any:
    """Return the config of a run with the generation settings of a request.

    Raises:
        ConfigError: a setting is unknown, or its value is not legal.
    """
    if not isinstance(asked, dict):
        raise ConfigError("settings: not an object")
    config = summarizer.config
    strategy = asked.get("strategy", config.generation.strategy)
    num_beams = asked.get("num_beams", config.generation.num_beams)
    max_tokens = asked.get("max_tokens", config.generation.max_tokens)
    if unknown := asked.keys() - {"strategy", "num_beams", "max_tokens"}:
        raise ConfigError(
            f"settings.{min(unknown)}: unknown; legal: strategy, num_beams, max_tokens"
        )

    # Beams and tokens are limited: they decide how long the server is busy.
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
