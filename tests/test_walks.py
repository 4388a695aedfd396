"""On the way down no file is entered twice: a reader follows a batch, a setting or a document from
file to file without coming back."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import headcount
from headcount.config.load import load
from headcount.model.build import build_model
from headcount.training.data_module import SummarizationDataModule
from headcount.training.module import Summarizer

SOURCE = Path(headcount.__file__).parent


def files_on_the_stack(frame: FrameType | None) -> list[str]:
    """Return the package's files from the first caller down, a stay in one file once."""
    files: list[str] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(SOURCE):
            name = path.relative_to(SOURCE).as_posix()
            if not files or files[-1] != name:
                files.append(name)
        frame = frame.f_back
    return files[::-1]


def walk(function: Callable[[], Any]) -> list[list[str]]:
    """Return the files of each way down that a call takes."""
    ways: dict[tuple[str, ...], None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(SOURCE)):
            ways[tuple(files_on_the_stack(frame))] = None

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return [list(way) for way in ways]


def check(ways: list[list[str]], *expected: str) -> None:
    """Check that no way enters a file twice, and that one passes these files in order."""
    again = [way for way in ways if len(set(way)) < len(way)]
    assert again == []
    assert any([name for name in way if name in expected] == list(expected) for way in ways)


@pytest.mark.parametrize("copying", ["false", "true"])
def test_a_batch_from_the_loader_to_the_loss(copying: str, small) -> None:
    data = SummarizationDataModule(small(f"model.copying={copying}"))
    data.setup()
    summarizer = Summarizer(data.config, data.tokenizer)
    summarizer.configure_model()
    loader = data.train_dataloader()

    def take_step() -> None:
        batch = next(iter(loader))
        output, targets_M = summarizer.forward_batch(batch)
        output.loss(targets_M)

    ways = walk(take_step)
    check(ways, "data/loader.py", "data/training_examples.py", "data/batches.py")
    check(
        ways, "training/module.py", "model/transformer.py", "model/layers.py", "model/attention.py"
    )
    assert any(way[-1] == "model/output.py" for way in ways)


def test_the_number_of_heads_from_yaml_to_the_block(tmp_path: Path) -> None:
    path = tmp_path / "heads.yaml"
    path.write_text("model: {num_heads: 4, embedding_size: 32}\ndata: {path: docstrings}\n")

    def build() -> None:
        model = load([str(path)], []).model
        build_model(model, vocabulary_size=300, max_positions=20)

    ways = walk(build)
    check(ways, "config/load.py", "config/schema.py")
    check(ways, "model/build.py", "model/attention.py")


@pytest.mark.parametrize("copying", ["false", "true"])
def test_a_document_from_the_run_to_its_summary(copying: str, finished_run_of) -> None:
    run = finished_run_of(f"model.copying={copying}")
    ways = walk(lambda: headcount.load_run(run).summarize(["Ada: Good day."]))
    check(ways, "api.py", "training/decoding.py", "training/module.py", "generation/generate.py")
    check(ways, "generation/generate.py", "model/transformer.py", "model/layers.py")


def test_a_file_that_is_entered_twice_is_found() -> None:
    """Negative control."""
    ways = [["a.py", "b.py"], ["a.py", "b.py", "a.py"]]
    with pytest.raises(AssertionError):
        check(ways, "a.py", "b.py")
