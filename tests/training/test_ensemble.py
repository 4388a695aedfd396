"""Runs that generate together: what is checked, and what is loaded."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from headcount.commands.train import train
from headcount.config.load import load, to_yaml
from headcount.config.schema import Config
from headcount.data.tokenizer import load_tokenizer
from headcount.errors import ConfigError
from headcount.runs.checkpoint import load_checkpoint
from headcount.runs.folder import config_file
from headcount.training.data_module import SummarizationDataModule
from headcount.training.ensemble import (
    check_held_out,
    check_runs,
    describe_system,
    first_difference,
    load_runs,
)
from headcount.training.module import Summarizer
from tests.model.builds import ARCHITECTURES


def run_of(small, name: str, *overrides: str) -> Path:
    """Train a run in a folder of its own."""
    folder = Path(small().run.directory) / name
    train(small(f"run.folder={folder}", "evaluation.baselines=[]", *overrides))
    return folder


def config_of(run: Path, *overrides: str) -> Config:
    return load([config_file(run)], list(overrides))


@pytest.mark.parametrize(
    ("expected", "found", "difference"),
    [
        ({"model": {"vocab": {"a": 1}}}, {"model": {"vocab": {"a": 1}}}, None),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "b is 3, not 2"),
        ({"a": {"b": [5, 6]}}, {"a": {"b": [5, 7]}}, "a.b.1 is 7, not 6"),
        ({"a": [1]}, {"a": [1, "x"]}, 'a.1 is "x", not missing'),
        ({"a": {"b": 1}}, {"a": {}}, "a.b is missing, not 1"),
        ({"a": None}, {"a": {"b": 1}}, 'a is {"b": 1}, not null'),
        ({"a": 1, "b": 2}, {"b": 3, "a": 2}, "a is 2, not 1"),
        ({"a": "x" * 90}, {"a": 1}, f'a is 1, not "{"x" * 39}...'),
    ],
)
def test_the_first_difference_is_named(expected: Any, found: Any, difference: str | None) -> None:
    assert first_difference(expected, found) == difference


def test_runs_that_do_not_go_together_are_named_in_one_line(small) -> None:
    first = run_of(small, "first")
    check_runs([first], config_of(first))
    check_runs([first, first], config_of(first))
    words = run_of(small, "words", "tokenizer.vocabulary_size=290")
    long = run_of(small, "long", "data.max_document_tokens=100")
    brief = run_of(small, "brief", "data.max_summary_tokens=20", *ARCHITECTURES["gpt"])
    rejected = {
        r"words: its tokenizer is not that of .*first: model\.vocab\.\S+ is missing, not \d+; "
        "legal: runs of one tokenizer": words,
        "long: data.max_document_tokens=100 is not that of .*first; legal: runs with 96": long,
        "brief: generation.max_tokens=32 is beyond the model's positions": brief,
        "none/config.yaml": first.with_name("none"),
    }
    for message, run in rejected.items():
        with pytest.raises(ConfigError, match=f"^[^\n]*{message}[^\n]*$"):
            check_runs([first, run], config_of(first))
    check_runs([first, brief], config_of(first, "generation.max_tokens=20"))
    with pytest.raises(
        ConfigError, match=r"heads_off=\['cross.0.0'\] does not go with several runs"
    ):
        check_runs([first, first], config_of(first, "generation.heads_off=[cross.0.0]"))
    with pytest.raises(ConfigError, match=r"model.num_heads=1: .* was trained with another value"):
        check_runs([first, first], config_of(first, "model.num_heads=1"))


def test_runs_that_trained_on_the_test_documents_of_the_first_are_named(small) -> None:
    """Only the configs of the runs are read here."""

    def carved(name: str, *overrides: str) -> Path:
        folder = Path(small().run.directory) / name
        folder.mkdir(parents=True)
        file = f"data.path={small().data.path}/train.jsonl"
        splits = ["data.validation_split=null", "data.test_split=null", "data.carved_examples=5"]
        (folder / "config.yaml").write_text(to_yaml(small(file, *splits, *overrides)))
        return folder

    first = carved("first")
    seed = carved("seed", "data.carving_seed=1")
    named = carved("named", "data.test_split=test")
    elsewhere = carved("elsewhere", "data.path=elsewhere", "data.carving_seed=1")
    with pytest.raises(
        ConfigError,
        match=r"^[^\n]*seed: data.carving_seed=1 is not that of [^\n]*first, [^\n]*; legal: runs "
        r"with data.carving_seed=0, or data.test_split=NAME[^\n]*$",
    ):
        check_held_out([first, first, seed], config_of(first))
    with pytest.raises(ConfigError, match=r"named: data.test_split=test is not that of"):
        check_held_out([first, named], config_of(first))
    with pytest.raises(ConfigError, match=r"seed: data.carving_seed=1 is not that of"):
        check_held_out([first, seed], config_of(first, "data.test_split=validation"))

    # The same carving, other data, a test split that is not carved, and one run.
    check_held_out([first, carved("same", "seed=1"), elsewhere], config_of(first))
    check_held_out([named, seed], config_of(named))
    check_held_out([seed], config_of(seed))


@pytest.mark.pictures
def test_different_architectures_generate_as_one(small) -> None:
    """The distribution of the first step is the mean of that of the models, each with its own
    weights; the precision is that of the config."""
    others = {"gpt": ["model.embedding_size=16"], "recurrent": ["model.copying=true"]}
    runs = []
    for name, overrides in ARCHITECTURES.items():
        runs.append(run_of(small, name, *overrides, *others.get(name, [])))
    config = config_of(runs[0])
    check_runs(runs, config)
    data = SummarizationDataModule(config, load_tokenizer(runs[0] / "tokenizer.json"))
    data.setup()
    summarizer = Summarizer(config, data.tokenizer)
    step = load_runs(summarizer, runs)
    assert step == load_checkpoint(runs[0], "best")["global_step"]
    summarizer.eval()

    batch = data.splits["test"].batch([0])
    first_tokens = []
    for run in runs:
        alone = Summarizer(config_of(run), data.tokenizer)
        load_runs(alone, [run])
        output, _ = alone.eval().forward_batch(batch)
        first_tokens.append(output.log_probabilities()[0].exp())
    [[best]] = summarizer.generate(batch)
    token = torch.stack(first_tokens).mean(0).argmax()
    assert [*best.tokens, summarizer.token_ids["</s>"]][0] == token
    assert summarizer.plot_attention(batch).axes

    half = Summarizer(config_of(runs[0], "generation.precision=bfloat16"), data.tokenizer)
    load_runs(half, runs)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert half.ensemble is not None and len(half.ensemble.models) == len(runs)


def test_systems_are_described() -> None:
    greedy, mbr = (load([], [f"generation.strategy={name}"]) for name in ("greedy", "mbr"))
    runs = [Path("runs/a-1"), Path("runs/a-2"), Path("runs/b-1")]
    assert describe_system(runs[:1], greedy) is None
    assert describe_system(runs, greedy) == "ensemble of a-1, a-2 and b-1"
    optimizes = "minimum Bayes risk, which optimizes ROUGE-1, ROUGE-2 and ROUGE-L"
    assert describe_system(runs[:1], mbr) == optimizes
    assert describe_system(runs[:2], mbr) == f"ensemble of a-1 and a-2; {optimizes}"
    one = load([], ["generation.strategy=mbr", "generation.mbr_metrics=[rouge1]"])
    assert describe_system(runs[:1], one) == "minimum Bayes risk, which optimizes ROUGE-1"
    each = load([], ["generation.strategy=mbr", "generation.mbr_candidates=each"])
    assert describe_system(runs[:2], each) == f"candidates of a-1 and a-2; {optimizes}"
    assert describe_system(runs[:1], each) == optimizes
    only_greedy = load([], ["generation.mbr_candidates=each"])
    assert describe_system(runs[:2], only_greedy) == "ensemble of a-1 and a-2"


def test_a_damaged_tokenizer_is_named(small) -> None:
    first = run_of(small, "first")
    other = Path(shutil.copytree(first, first.with_name("other")))
    (other / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match=r"other/tokenizer.json: not a tokenizer"):
        check_runs([first, other], config_of(first))
