"""Small models with random weights, which write something, and pages of them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from headcount.data.batches import EncodedPairs
from headcount.data.pairs import Pairs
from headcount.page.payload import PageRun, select_rows
from headcount.training.data_module import SummarizationDataModule
from headcount.training.decoding import encode_pairs
from headcount.training.module import Summarizer
from tests.model.builds import ARCHITECTURES
from tests.page.browser import AXE, open_browser

MakeRun = Callable[..., tuple[PageRun, Pairs]]


@pytest.fixture
def make_run(small) -> MakeRun:
    """Return a run of random weights, and five test documents."""

    def make(
        architecture: str = "transformer", *changes: str, seed: int = 0
    ) -> tuple[PageRun, Pairs]:
        overrides = ["model.encoder_layers=2", "model.decoder_layers=2", "generation.max_tokens=8"]
        config = small(*overrides, *ARCHITECTURES[architecture], *changes)
        data = SummarizationDataModule(config)
        data.setup()
        torch.manual_seed(seed)
        summarizer = Summarizer(config, data.tokenizer)
        summarizer.configure_model()
        for parameter in summarizer.parameters():
            torch.nn.init.uniform_(parameter, -0.4, 0.4)
        run = PageRun(name=f"run-{seed}", summarizer=summarizer.eval())
        return run, select_rows(data.splits["test"].pairs, range(5))

    return make


@pytest.fixture
def one_run(make_run: MakeRun) -> tuple[Summarizer, EncodedPairs]:
    """Return a summarizer and its documents."""
    run, pairs = make_run("transformer", "model.copying=true")
    return run.summarizer, encode_pairs(run.summarizer, pairs)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Return a browser without any network; the test is skipped where none is installed."""
    yield from open_browser()


@pytest.fixture(scope="session")
def axe() -> str:
    """Return axe-core's source; the test is skipped where it is not installed."""
    source = Path(os.environ.get("AXE", AXE))
    if not source.is_file():
        pytest.skip("axe-core is not installed (npm install --no-save axe-core@4, or AXE=FILE)")
    return source.read_text(encoding="utf-8")
