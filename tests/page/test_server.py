"""The server, asked over HTTP as a browser, a script or another site would."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from headcount.escape import printable
from headcount.page import server as page_server
from headcount.page.heads_off import generate_without, summaries_without
from headcount.page.payload import make_page, select_rows
from headcount.page.server import make_app
from headcount.training.decoding import encode_documents
from tests.page.browser import Visit

TEXT = "Ada: Good day.\nBen: I would like a pear."


class Served:
    """A server in a thread."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        self.port = listener.getsockname()[1]
        settings = uvicorn.Config(app, log_level="error", lifespan="off", ws="none")
        self.server = uvicorn.Server(settings)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)

    def ask(
        self, path: str, body: Any = None, *, method: str = "POST", **headers: str
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {"Content-Type": "application/json"} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, body=None if method == "GET" else data, headers=sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        self.headers = dict(answer.getheaders())
        return answer.status, json.loads(text) if text.startswith(("{", "[")) else text


@pytest.fixture
def serve(make_run) -> Iterator[Any]:
    started: list[Served] = []

    def start(*, token: str = "", documents: int = 2, local: bool = True) -> tuple[Served, Any]:
        run, pairs = make_run("transformer")
        page = make_page(
            select_rows(pairs, range(documents)), [run], with_heads_off=False, with_text=True
        )
        listener = socket.create_server(("127.0.0.1", 0))
        hosts = [f"127.0.0.1:{listener.getsockname()[1]}"] if local else None
        started.append(Served(make_app(page, [run], hosts=hosts, token=token), listener))
        return started[-1], run.summarizer

    yield start
    for each in started:
        each.stop()


def test_a_text_is_summarized_as_by_the_model(serve) -> None:
    served, summarizer = serve()
    encoded = encode_documents(summarizer, [TEXT])
    status, answer = served.ask("/summarize", {"text": TEXT})
    assert status == 200
    [run] = answer["runs"]
    [hypothesis] = generate_without(summarizer, encoded)
    assert run["document"]["summary"] == printable(summarizer.text_of(hypothesis))
    assert run["packed"] and run["document"]["rouge"] is None

    # Any combination of heads.
    heads = ["cross.0.1", "encoder.0.0", "decoder.1.1"]
    status, (summary, rouge) = served.ask(
        "/heads-off", {"text": TEXT, "run": 0, "heads": heads, "references": ["Ada buys a pear."]}
    )
    [[expected]] = summaries_without(summarizer, encoded, [heads])
    assert status == 200 and summary == printable(expected)
    assert rouge == [
        round(100 * each, 2) for each in summarizer.rouge.score(summary, ["Ada buys a pear."])[:3]
    ]

    # Settings hold for one request.
    before = summarizer.config
    status, answer = served.ask(
        "/summarize",
        {"text": TEXT, "settings": {"max_tokens": 2, "strategy": "beam", "num_beams": 3}},
    )
    assert status == 200 and len(answer["runs"][0]["document"]["written"]) <= 2
    assert summarizer.config is before
    assert served.headers["content-security-policy"] == "frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no json", "not JSON"), (b"[]", "not a JSON object"), (b"[" * 100_000, "not JSON"), (b"\xff\xfe", "not JSON"),
        ({}, "text"), ({"text": " \n"}, "text"), ({"text": 5}, "text"),
        ({"text": "a", "settings": {"strategy": "magic"}}, "settings.strategy=magic"),
        ({"text": "a", "settings": {"num_beams": 10**9}}, "num_beams"), ({"text": "a", "settings": {"num_beams": True}}, "num_beams"),
        ({"text": "a", "settings": {"max_tokens": 0}}, "max_tokens"), ({"text": "a", "settings": {"max_tokens": 10**6}}, "max_tokens"),
        ({"text": "a", "settings": {"x": 1}}, "settings.x"), ({"text": "a", "settings": []}, "settings"),
    ],
)  # fmt: skip
def test_wrong_input_is_answered_in_one_line(serve, body: Any, message: str) -> None:
    served, summarizer = serve(documents=1)
    before = summarizer.config
    status, answer = served.ask("/summarize", body)
    assert status == 400 and message in answer["error"] and summarizer.config is before
    assert served.ask("/summarize", {"text": "a\ud800\0b"})[0] == 200


def test_wrong_heads_and_runs(serve) -> None:
    served, _ = serve(documents=1)
    for change, message in (
        ({"heads": ["cross.9.0"]}, "cross.9.0"), ({"heads": "cross.0.0"}, "heads"), ({"run": 1}, "run=1"),
        ({"run": -1}, "run=-1"), ({"run": True}, "run=True"), ({"references": [1]}, "references"),
    ):  # fmt: skip
        status, answer = served.ask("/heads-off", {"text": "a", "run": 0, "heads": [], **change})
        assert status == 400 and message in answer["error"]


def test_requests_that_are_not_the_pages_own_are_refused(serve) -> None:
    served, _ = serve(documents=1)
    own = f"http://127.0.0.1:{served.port}"
    asked = {"text": "a", "settings": {"max_tokens": 1}}
    for status, headers in (
        (200, {"Origin": own}), (200, {"Sec_Fetch_Site": "same-origin"}),
        (403, {"Origin": "http://evil.example"}), (403, {"Origin": "null"}), (403, {"Origin": f"https://127.0.0.1:{served.port}"}),
        (403, {"Host": "evil.example"}), (403, {"Host": f"evil.example:{served.port}"}), (403, {"Sec_Fetch_Site": "cross-site"}),
        (403, {"Sec_Fetch_Site": "same-site"}), (415, {"Content_Type": "text/plain"}),
        (415, {"Content_Type": "application/x-www-form-urlencoded"}),
    ):  # fmt: skip
        assert served.ask("/summarize", asked, **headers)[0] == status, headers
    assert served.ask("/", method="GET", Host="evil.example")[0] == 403
    assert served.ask("/summarize", method="GET")[0] == 405
    assert (
        served.ask("/summarize", asked, method="OPTIONS", Origin="http://evil.example")[0] == 405
    )
    assert served.ask("/../../etc/passwd", method="GET")[0] == 404
    status, page = served.ask("/", method="GET")
    assert status == 200 and "connect-src 'self'" in page
    assert "access-control-allow-origin" not in served.headers


def test_too_large_a_text(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served, _ = serve(documents=1)
    monkeypatch.setattr(page_server, "MAX_BYTES", 1000)
    assert served.ask("/summarize", {"text": "a " * 2000})[0] == 413
    assert served.ask("/summarize", {"text": "a " * 100})[0] == 200


def test_the_token_is_needed_where_others_can_reach_it(serve) -> None:
    token = "0123456789abcdef"
    served, _ = serve(token=token, documents=1, local=False)
    assert served.ask("/", method="GET")[0] == 401
    assert served.ask("/?token=wrong", method="GET")[0] == 401
    assert served.ask(f"/?token={token}", method="GET")[0] == 200
    assert served.ask("/summarize", {"text": "a"})[0] == 401
    assert served.ask("/summarize", {"text": "a"}, X_Token="é" * 16)[0] == 401
    assert served.ask("/summarize", {"text": "a"}, X_Token=token)[0] == 200


def test_one_at_a_time_and_a_short_queue(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served, _ = serve(documents=1)
    working, most, turn = [], [], threading.Event()

    def slow(*args: Any, **kwargs: Any) -> Any:
        working.append(1)
        most.append(len(working))
        turn.wait(20)
        working.pop()
        return generate_without(*args, **kwargs)

    monkeypatch.setattr(page_server, "generate_without", slow)
    monkeypatch.setattr(page_server, "MAX_WAITING", 3)
    statuses: list[int] = []
    asked = {"text": TEXT, "settings": {"max_tokens": 2}}
    clients = [
        threading.Thread(target=lambda: statuses.append(served.ask("/summarize", asked)[0]))
        for _ in range(5)
    ]
    for client in clients:
        client.start()
    while len(statuses) < 2:  # two are turned away at once
        time.sleep(0.01)
    assert statuses == [503, 503]
    turn.set()
    for client in clients:
        client.join(20)
    assert sorted(statuses) == [200, 200, 200, 503, 503] and max(most) == 1


def test_the_served_page_in_a_browser(browser, serve, tmp_path: Path) -> None:
    served, summarizer = serve(documents=2)
    address = f"http://127.0.0.1:{served.port}/"
    with Visit(browser, address, offline=False) as visit:
        assert visit.requests == [address] or all(
            url.startswith((address, "data:")) for url in visit.requests
        )

        # Paste, summarize.
        visit.page.locator("#live-text").fill("")
        visit.page.get_by_role("button", name="Summarize").click()
        assert "no text yet" in visit.text("#live-status")
        visit.page.locator("#live-text").fill(TEXT + "</script><b>")
        visit.page.locator("#live-strategy").select_option("beam")
        visit.page.get_by_role("button", name="Summarize").click()
        visit.until("document.getElementById('live-status').textContent.startsWith('Done')")
        assert visit.page.locator("#document option").count() == 3
        assert visit.page.locator("#document").input_value() == "2"

        # Any heads off.
        for name in ("Encoder, layer 1, head 1 off", "Cross-attention, layer 2, head 2 off"):
            visit.page.get_by_role("button", name=name).click()
        visit.until(
            "document.querySelector('#heads-off .result').textContent.startsWith('Without encoder 1.1, cross-attention 2.2')"
        )

        # Wrong settings and too large a text are said in words.
        visit.page.locator("#live-beams").evaluate(
            "(input) => { input.max = ''; input.value = 99; }"
        )
        visit.page.get_by_role("button", name="Summarize").click()
        visit.until("document.getElementById('live-status').textContent.includes('num_beams=99')")
        assert [each for each in visit.complaints if "400" not in each] == []

        # A second visitor has a page of their own.
        with Visit(browser, address, offline=False) as other:
            assert other.page.locator("#document option").count() == 2

        served.stop()
        visit.page.locator("#live-beams").fill("2")
        visit.page.get_by_role("button", name="Summarize").click()
        visit.until(
            "document.getElementById('live-status').textContent.includes('does not answer')"
        )


def test_a_server_without_documents(browser, serve) -> None:
    served, _ = serve(documents=0)
    with Visit(browser, f"http://127.0.0.1:{served.port}/", offline=False) as visit:
        assert not visit.page.locator("#toolbar").is_visible()
        visit.page.locator("#live-text").fill(TEXT)
        visit.page.get_by_role("button", name="Summarize").click()
        visit.page.wait_for_selector(".panel")
        assert visit.page.locator("#toolbar").is_visible() and visit.complaints == []
