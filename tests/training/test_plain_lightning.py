"""The modules in a plain ``pl.Trainer``: what a user of Lightning expects of them."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, ModelSummary
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.trainer.states import RunningStage
from torch.utils.data import DataLoader

import headcount
from headcount.commands.export import export
from headcount.commands.train import train
from headcount.config.load import as_dict
from headcount.config.schema import Config
from headcount.data.tokenizer import load_tokenizer
from headcount.errors import ConfigError
from headcount.runs.checkpoint import read_checkpoint
from headcount.runs.folder import config_differences
from headcount.training.data_module import SummarizationDataModule
from headcount.training.module import Summarizer
from tests.conftest import SMALL, write_data

STEPS = ["trainer.max_steps=80", "trainer.val_check_interval=40", "optimizer.warmup_steps=5"]
LEARNS = ["optimizer.learning_rate=0.01", "model.dropout=0", "optimizer.label_smoothing=0"]


def plain_trainer(**arguments: Any) -> pl.Trainer:
    """Return a Trainer as a user makes it, but quiet."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return pl.Trainer(
        **{"accelerator": "cpu", "enable_checkpointing": False, **quiet, **arguments}
    )


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Config]:
    """A run that has learned enough for scores that are not all zero."""
    folder = tmp_path_factory.mktemp("learned")
    where = [f"data.path={write_data(folder / 'data')}", f"data.cache_dir={folder / 'cache'}"]
    metrics = "evaluation.metrics=[bleu,chrf]"
    overrides = [*SMALL, *where, *STEPS, *LEARNS, metrics, f"run.folder={folder / 'run'}"]
    config = headcount.load_config(overrides=overrides)
    train(config)
    return folder / "run", config


def test_a_checkpoint_is_all_that_is_needed(learned: tuple[Path, Config], tmp_path: Path) -> None:
    """``load_from_checkpoint`` with nothing else, also where the file has been moved to."""
    run, config = learned
    moved = tmp_path / "best.ckpt"
    moved.write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    module = Summarizer.load_from_checkpoint(moved)
    assert module.config == config and module.training
    assert module.tokenizer.to_str() == load_tokenizer(run / "tokenizer.json").to_str()
    weights = headcount.load_run(run).module.state_dict()
    assert all(torch.equal(module.state_dict()[name], weights[name]) for name in weights)


def test_the_weights_of_an_export_are_a_checkpoint(
    learned: tuple[Path, Config], tmp_path: Path
) -> None:
    run, config = learned
    export(run, tmp_path / "exported")
    module = Summarizer.load_from_checkpoint(tmp_path / "exported" / "model.safetensors")
    assert module.config.model == config.model
    weights = Summarizer.load_from_checkpoint(run / "checkpoints" / "best.ckpt").state_dict()
    assert all(torch.equal(module.state_dict()[name], weights[name]) for name in weights)


def test_a_checkpoint_is_loaded_in_the_precision_of_training(
    small: Callable[..., Config], tmp_path: Path
) -> None:
    """``generation.precision`` is for generation: whoever continues training wants all digits."""
    config = small("generation.precision=bfloat16")
    module = headcount.build_module(config, headcount.build_data(config))
    module.configure_model()
    content: dict[str, Any] = {"state_dict": module.state_dict(), "global_step": 1}
    module.on_save_checkpoint(content)
    torch.save(content, tmp_path / "some.ckpt")
    loaded = Summarizer.load_from_checkpoint(tmp_path / "some.ckpt")
    for name, weight in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight) and weight.dtype == torch.float32


def test_a_time_limit_is_all_that_ends_a_training(
    small: Callable[..., Config], recwarn: pytest.WarningsRecorder
) -> None:
    """The cosine then has no end, which a warning says once."""
    config = small("optimizer.schedule=cosine", "optimizer.warmup_steps=1")
    data = headcount.build_data(config)
    module = headcount.build_module(config, data)
    trainer = plain_trainer(max_time={"seconds": 2}, limit_val_batches=0)
    trainer.fit(module, data)
    assert trainer.global_step > 1
    [group] = trainer.optimizers[0].param_groups[-1:]
    assert group["lr"] == group["initial_lr"]
    messages = [str(each.message) for each in recwarn]
    assert sum("optimizer.schedule=cosine has no end" in message for message in messages) == 1


def test_checkpoints_that_lack_the_tokenizer(learned: tuple[Path, Config], tmp_path: Path) -> None:
    """Those of earlier versions have it in their run folder."""
    run, _ = learned
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    del content["tokenizer"]
    old = tmp_path / "old" / "checkpoints" / "best.ckpt"
    old.parent.mkdir(parents=True)
    torch.save(content, old)
    with pytest.raises(ConfigError, match=r"tokenizer.json: not a tokenizer"):
        Summarizer.load_from_checkpoint(old)
    (tmp_path / "old" / "tokenizer.json").write_bytes((run / "tokenizer.json").read_bytes())
    assert Summarizer.load_from_checkpoint(old).token_ids


@pytest.mark.parametrize("missing", ["config", "model"])
def test_what_is_no_checkpoint_is_one_line(
    missing: str, learned: tuple[Path, Config], tmp_path: Path
) -> None:
    content = torch.load(learned[0] / "checkpoints" / "best.ckpt", weights_only=True)
    (content if missing == "config" else content["config"]).pop(missing)
    content["config" if missing == "model" else "other"] = {"modell": {}}
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(ConfigError, match=r"^[^\n]*odd.ckpt: [^\n]*$"):
        Summarizer.load_from_checkpoint(tmp_path / "odd.ckpt")
    with pytest.raises(ConfigError, match=r"nowhere.ckpt is missing"):
        Summarizer.load_from_checkpoint("nowhere.ckpt")


def test_test_and_predict_are_those_of_the_command(learned: tuple[Path, Config]) -> None:
    """``trainer.test`` gives the scores of scores.json, ``trainer.predict`` its summaries."""
    run, config = learned
    module = Summarizer.load_from_checkpoint(run / "checkpoints" / "best.ckpt")
    data = SummarizationDataModule(config)
    [scores] = plain_trainer().test(module, data, verbose=False)
    expected = json.loads((run / "scores.json").read_text())["systems"]["model"]
    assert scores["test/rouge1"] > 20 and scores["test/chrf"] > 20
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf"):
        assert scores[f"test/{name}"] == pytest.approx(expected[name]["mean"], abs=1e-3), name

    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    batches = plain_trainer().predict(module, data)
    assert batches is not None
    written = {each.row: each.summary for batch in batches for each in batch}
    assert [written[row] for row in range(len(rows))] == [row["summary"] for row in rows]


def test_long_documents_are_tested_in_windows(learned: tuple[Path, Config]) -> None:
    run, _ = learned
    split = ["generation.long_documents=split"]
    whole = headcount.load_run(run, split)
    documents = headcount.build_data(whole.config).splits["test"].pairs.documents
    module = whole.module
    narrow = headcount.load_config(
        run / "config.yaml", overrides=[*split, "data.max_document_tokens=32"]
    )
    data = SummarizationDataModule(narrow, module.tokenizer)
    batches = plain_trainer().predict(module, data)
    assert batches is not None and sum(len(batch) for batch in batches) == len(documents)
    [scores] = plain_trainer().test(module, data, verbose=False)
    assert scores["test/rouge1"] > 5


def test_a_plain_loader_of_batches(learned: tuple[Path, Config]) -> None:
    """Validation and test without a data module, also after a call that had one.

    The references are then the summaries of the batches, which here is the same.
    """
    run, config = learned
    module = Summarizer.load_from_checkpoint(run / "checkpoints" / "best.ckpt")
    data = headcount.build_data(config)
    split = data.splits["validation"]
    loader: DataLoader[Any] = DataLoader(range(len(split)), batch_size=5, collate_fn=split.batch)
    trainer = plain_trainer()
    [expected] = trainer.validate(module, data, verbose=False)
    [scores] = trainer.validate(module, loader, verbose=False)
    assert scores.keys() == expected.keys() and expected["validation/rougeL"] > 20
    assert scores == pytest.approx(expected, rel=1e-4)
    [tested] = trainer.test(module, loader, verbose=False)
    assert tested["test/rougeL"] == pytest.approx(expected["validation/rougeL"], rel=1e-4)
    trainer = plain_trainer(max_epochs=1, limit_val_batches=1)
    trainer.fit(module, loader, loader)
    assert trainer.global_step == len(loader)


def test_hparams_the_schedule_and_the_example_are_where_lightning_looks(
    small, tmp_path: Path
) -> None:
    config = small("trainer.max_steps=4", "optimizer.warmup_steps=1")
    data = headcount.build_data(config)
    module = headcount.build_module(config, data)
    assert dict(module.hparams) == as_dict(config)
    logger = CSVLogger(tmp_path / "logs")
    callbacks = [
        LearningRateMonitor("step"),
        ModelSummary(max_depth=2),
        ModelCheckpoint(tmp_path, "{step}", monitor="validation/rougeL", mode="max"),
    ]
    trainer = plain_trainer(
        max_steps=4, logger=logger, callbacks=callbacks, enable_checkpointing=True,
        val_check_interval=2, log_every_n_steps=1, limit_val_batches=1,
    )  # fmt: skip
    trainer.fit(module, data)
    logger.save()
    header, *rows = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    assert {"lr-AdamW/pg1", "train/loss", "validation/rougeL"} <= set(header.split(","))
    assert "train/token_accuracy" in header and rows
    assert "num_heads: 2" in (Path(logger.log_dir) / "hparams.yaml").read_text()
    assert module(module.example_input_array[0]).loss is not None

    # The checkpoint of a plain Trainer, too, is all that is needed; and training resumes from it.
    [path] = tmp_path.glob("step=*.ckpt")
    again = Summarizer.load_from_checkpoint(path)
    trainer = plain_trainer(max_steps=6)
    trainer.fit(again, data, ckpt_path=path, weights_only=True)
    assert trainer.global_step == 6


def test_a_checkpoint_has_no_password_and_is_still_of_its_run(
    small: Callable[..., Config], tmp_path: Path
) -> None:
    config = small("loggers.mlflow_uri=https://user:secret@tracking.example/path")
    data = headcount.build_data(config)
    module = headcount.build_module(config, data)
    trainer = plain_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "step=1.ckpt", weights_only=True)

    assert b"secret" not in (tmp_path / "step=1.ckpt").read_bytes()
    content = read_checkpoint(tmp_path / "step=1.ckpt")
    assert content["config"]["loggers"]["mlflow_uri"] == "https://***@tracking.example/path"
    assert config_differences(content["config"], config) == []


def test_a_plain_trainer_that_is_limited_takes_no_longest_documents(
    small: Callable[..., Config],
) -> None:
    """Batches in a fixed random order; one batch in 1, all of them in 1.0."""
    data = headcount.build_data(small("generation.batch_size=2"))
    orders = []
    for limit in (1.0, 1, 0.5, 0.5):
        data.trainer = plain_trainer(limit_val_batches=limit, limit_test_batches=limit)
        orders.append([batch.indices for batch in data.val_dataloader()])
        assert [batch.indices for batch in data.test_dataloader()] != []
    data.trainer = plain_trainer(fast_dev_run=True)
    longest = [batch.indices for batch in data.val_dataloader()]
    assert orders[0] == longest != orders[1] and orders[1] == orders[2] == orders[3]
    assert sorted(orders[0]) == sorted(orders[1])


def test_lightning_shares_no_batches_a_second_time(small: Callable[..., Config]) -> None:
    """The loaders already have the share of a rank. ``_prepare_dataloader`` is what would replace
    their sampler under DDP."""
    data = headcount.build_data(small())
    connector = plain_trainer(devices=2, strategy="ddp")._data_connector
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        mode = RunningStage.VALIDATING
        assert connector._prepare_dataloader(loader, shuffle=False, mode=mode) is loader


def test_overfitting_with_a_plain_trainer(small: Callable[..., Config]) -> None:
    data = headcount.build_data(small())
    data.trainer = plain_trainer(overfit_batches=2)
    loader = data.train_dataloader()
    first = [batch.indices for batch in loader]
    loader.set_epoch(1)
    assert [batch.indices for batch in loader] == first


DOCUMENTATION = (Path(__file__).parents[2] / "docs" / "lightning.md").read_text(encoding="utf-8")
[SCRIPT, *_] = re.findall(r"```python\n(.*?)```", DOCUMENTATION, re.S)
SHORT_SCRIPT = SCRIPT.replace("=2700", "=8, log_every_n_steps=1").replace("=200", "=4")


def test_the_script_of_the_documentation(
    small: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a small model on made-up data, for a few steps."""
    pytest.importorskip("tensorboard", reason="needs headcount[tensorboard]")
    assert 15 <= len(SCRIPT.splitlines()) <= 30
    monkeypatch.setattr(headcount, "load_config", lambda *_, **__: small("seed=1"), raising=False)
    namespace: dict[str, Any] = {}
    exec(SHORT_SCRIPT, namespace)
    assert namespace["trainer"].global_step == 8
    assert "test/rouge1" in namespace["trainer"].callback_metrics
    assert isinstance(namespace["summarizer"], Summarizer)
    assert list((tmp_path / "logs").rglob("events.out.tfevents.*"))


def test_the_script_as_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each statement is a cell of a notebook, executed cell by cell in a kernel."""
    pytest.importorskip("tensorboard", reason="needs headcount[tensorboard]")
    nbformat = pytest.importorskip("nbformat", reason="needs the extra tutorials")
    nbclient = pytest.importorskip("nbclient", reason="needs the extra tutorials")
    pytest.importorskip("ipykernel", reason="needs the extra tutorials")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    # The config of a small model on made-up data.
    where = [f"data.path={write_data(tmp_path / 'data')}", f"data.cache_dir={tmp_path / 'cache'}"]
    arguments = '"configs/docstrings.yaml", overrides=["seed=1"]'
    assert arguments in SHORT_SCRIPT
    script = SHORT_SCRIPT.replace(arguments, f"overrides={[*SMALL, *where]}")

    # A last cell fails unless the training has ended and its checkpoint is read.
    lines = script.splitlines(keepends=True)
    cells = ["".join(lines[n.lineno - 1 : n.end_lineno]) for n in ast.parse(script).body]
    cells.append("assert trainer.global_step == 8 and summarizer.config == config")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, kernel_name="python3", resources=resources)
    done = client.execute()
    assert [cell.execution_count for cell in done.cells] == list(range(1, len(cells) + 1))
    assert list((tmp_path / "logs").rglob("events.out.tfevents.*"))
