"""What a page costs: ``python -m benchmarks.page RUN``, from the repository's root.

For 1, 20 and 100 test documents of a run, with its heads off: seconds to write the file, its size, and
in a browser (Chromium by Playwright) milliseconds to the first paint and until all is drawn. Then
frames and CPU time while the pointer moves over a summary of 60 tokens, with a document of 500 tokens:
of a model with random weights, four layers of eight heads. A frame of a 60 Hz screen has 16.7 ms.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tests.page.browser import open_browser

from headcount.commands.page import load_page_run, read_pairs, save_page
from headcount.config.load import load
from headcount.data.tokenizer import train_tokenizer
from headcount.generation.hypothesis import Hypothesis
from headcount.page.payload import (
    Page,
    PageRun,
    describe_document,
    describe_run,
    make_page,
    without_references,
)
from headcount.training.decoding import encode_pairs
from headcount.training.module import Summarizer

DOCUMENT, SUMMARY = 500, 60  # tokens
MOVES = 120  # of the pointer
PATIENCE = 600_000  # ms; on a busy machine Playwright's 30 s are too few

# Frames while the pointer moves from token to token, one move per frame. A frame is late if the next
# one begins more than a quarter later than a screen of 60 Hz shows it.
FRAMES = """
async () => {
  const tokens = [...document.querySelectorAll('.summary [data-index]')];
  const times = [];
  for (let move = 0; move < %d; move += 1) {
    const token = tokens[move %% tokens.length];
    token.dispatchEvent(new PointerEvent('pointerover', { bubbles: true, pointerType: 'mouse' }));
    times.push(await new Promise(requestAnimationFrame));
  }
  return times.slice(1).map((time, index) => time - times[index]);
}
"""


def long_page() -> Page:
    """Return a page of one document of DOCUMENT tokens and a summary of SUMMARY tokens."""
    overrides = [
        "model.embedding_size=64", "model.num_heads=8", "model.encoder_layers=4", "model.decoder_layers=4",
        "model.feedforward_size=64", "model.copying=true", f"data.max_document_tokens={DOCUMENT}",
        f"data.max_summary_tokens={SUMMARY + 2}",
    ]  # fmt: skip
    text = " ".join(["word"] * 2 * DOCUMENT)
    tokenizer = train_tokenizer([text], "bpe", 300)
    torch.manual_seed(0)
    summarizer = Summarizer(load([], overrides), tokenizer).eval()
    summarizer.configure_model()
    run = PageRun(name="random", summarizer=summarizer)
    encoded = encode_pairs(summarizer, without_references(["long"], [text]))
    ids = tokenizer.encode(text, add_special_tokens=False).ids[: SUMMARY - 1]
    hypothesis = Hypothesis(tokens=ids, score=0.0, finished=True)
    document, packed = describe_document(summarizer, encoded, 0, hypothesis, name="maps-0-0")
    described = {**describe_run(run), "documents": [document]}
    documents = [{"id": "long", "references": [], "words": len(text.split())}]
    return Page(content={"documents": documents, "runs": [described]}, maps={"maps-0-0": packed})


def open_page(browser: Any, path: Path) -> tuple[Any, float, float]:
    """Open a file; return the page, and milliseconds to the first paint and to the last drawing."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=true]")
    ready = page.evaluate("performance.now()")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    return page, paint, ready


def cpu_seconds(session: Any) -> float:
    """Return the CPU time of a page's main thread, which other work on the machine does not
    change: script, style, layout and paint, since the metrics of its session were enabled."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(each["value"] for each in metrics if each["name"] == "TaskDuration")


def main() -> None:
    """Print a line for each number of documents, and one for the frames."""
    run = load_page_run(Path(sys.argv[1]), [])
    print(f"{'documents':>9}{'seconds':>10}{'MB':>8}{'first paint ms':>16}{'all drawn ms':>14}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        for browser in open_browser():
            for number in (1, 20, 100):
                began = time.perf_counter()
                save_page(make_page(read_pairs([run], None, number), [run]), path)
                seconds = time.perf_counter() - began
                page, paint, ready = open_page(browser, path)
                page.close()
                size = path.stat().st_size / 1e6
                print(
                    f"{number:9}{seconds:10.1f}{size:8.2f}{paint:16.0f}{ready:14.0f}", flush=True
                )

            save_page(long_page(), path)
            page, paint, ready = open_page(browser, path)
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            page.evaluate(FRAMES % 10)
            before = cpu_seconds(session)
            frames = sorted(page.evaluate(FRAMES % MOVES))
            milliseconds = 1000 * (cpu_seconds(session) - before) / MOVES
            late = sum(frame > 1.25 * 1000 / 60 for frame in frames)
            print(
                f"{DOCUMENT} x {SUMMARY} tokens: first paint {paint:.0f} ms, all drawn {ready:.0f} ms; "
                f"a move of the pointer takes {milliseconds:.1f} ms of the page's CPU time; frames "
                f"{frames[len(frames) // 2]:.1f} ms apart (median), {late} of {len(frames)} late"
            )


if __name__ == "__main__":
    main()
