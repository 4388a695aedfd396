import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
from tokenizers import Tokenizer

from headcount.config.load import load
from headcount.errors import ConfigError
from headcount.training.data_module import SummarizationDataModule
from headcount.training.preconditions import (
    check_same_data,
    count_steps,
    report_unfinished_warmups,
    report_unscored_text,
)


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({"max_steps": 5}, 5),
        ({"max_epochs": 3}, 21),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 12),
        ({"max_epochs": -1}, None),
    ],
)
def test_steps_are_those_that_lightning_trains(
    arguments: dict[str, int], steps: int | None, tmp_path: Path
) -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(**arguments, **quiet, accelerator="cpu", default_root_dir=tmp_path)
    assert count_steps(trainer, batches=7) == steps


@pytest.mark.parametrize(
    ("stages", "steps", "reported"),
    [
        ("[]", 200, ["optimizer.warmup_steps=200: this training has 200 steps"]),
        ("[]", 201, []),
        ("[]", None, []),
        ("[{steps: 50},{}]", 1000, ["stages: warmup_steps=200 of stage 1, which has 50 steps"]),
        # Only time limits the training: its last stage has no number of steps.
        ("[{steps: 50},{}]", None, ["stages: warmup_steps=200 of stage 1, which has 50 steps"]),
        (
            "[{steps: 900,warmup_steps: 10},{learning_rate_factor: 0.5}]",
            1000,
            ["stages: warmup_steps=200 of stage 2, which has 100 steps, so its learning rate "
             "stays below 0.0005"],
        ),
        # The budget ends within the first stage.
        ("[{steps: 900},{}]", 100, ["stages: warmup_steps=200 of stage 1, which has 100 steps"]),
        ("[{steps: 201},{warmup_steps: 9}]", 1000, []),
    ],
)  # fmt: skip
def test_a_warm_up_that_a_stage_never_leaves_is_reported(
    stages: str, steps: int | None, reported: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["optimizer.warmup_steps=200", "optimizer.learning_rate=0.001", f"stages={stages}"]
    report_unfinished_warmups(load([], changes), steps)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(reported)
    assert all(line.startswith(start) for line, start in zip(lines, reported, strict=True))


def test_the_data_of_a_started_run(small, tmp_path: Path) -> None:
    config = small()
    data = SummarizationDataModule(config)
    data.setup()
    check_same_data(tmp_path, config, data)
    record = tmp_path / "data.json"
    text = json.dumps(data.origin, indent=2)
    for harmless in (text, f"\ufeff{text}", text.replace("\n", "\r\n")):
        record.write_text(harmless, encoding="utf-8")
        check_same_data(tmp_path, config, data)
    record.write_text(text.replace(data.origin["test"]["sha256"], "0" * 64))
    with pytest.raises(ConfigError, match="its test split has the SHA-256 .* legal: 0000"):
        check_same_data(tmp_path, config, data)


def test_a_record_of_the_data_that_was_edited_by_hand(small, tmp_path: Path) -> None:
    config = small()
    data = SummarizationDataModule(config)
    data.setup()
    texts = ["", "{", "[]", "3", "null", "{}", '{"train": 3}', '{"train": {}}', "\x00"]
    for content in [text.encode() for text in [*texts, "[" * 10**5]] + [b"\xff\xfe{"]:
        (tmp_path / "data.json").write_bytes(content)
        with pytest.raises(ConfigError, match=r"^\S*data.json: not the record .*; legal: [^\n]*$"):
            check_same_data(tmp_path, config, data)


def test_the_tokenizer_of_a_started_run(small, tmp_path: Path) -> None:
    config = small()
    data = SummarizationDataModule(config)
    data.setup()
    path = tmp_path / "tokenizer.json"
    text = data.tokenizer.to_str()
    path.write_text(text)
    check_same_data(tmp_path, config, data)

    # Edited by hand: it may be no tokenizer any more, or another one.
    for content in ("{", text.replace("</s>", "<end>")):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"tokenizer.json: [^\n]*legal: .* or --fresh$"):
            check_same_data(tmp_path, config, data)
    other = Tokenizer.from_str(text)
    other.add_tokens(["another"])
    path.write_text(other.to_str())
    with pytest.raises(
        ConfigError, match=r"^tokenizer.path=null: .*; legal: the same, or --fresh$"
    ):
        check_same_data(tmp_path, config, data)


@pytest.mark.parametrize(
    ("summary", "tokenizer", "is_reported"),
    [
        ("Она купила книгу.", "rouge-score", True),
        ("Она купила книгу.", "unicode", False),
        ("She bought a book.", "rouge-score", False),
    ],
)
def test_text_that_rouge_does_not_see_is_reported_before_the_training(
    small, summary: str, tokenizer: str, is_reported: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(f"evaluation.tokenizer={tokenizer}")
    pairs = SimpleNamespace(references=[[summary]] * 3)
    data = SimpleNamespace(splits={"validation": SimpleNamespace(pairs=pairs)})
    report_unscored_text(config, data)
    line = "ROUGE ignores 100.0 % of the words and 100.0 % of the letters"
    assert (line in capsys.readouterr().out) == is_reported
