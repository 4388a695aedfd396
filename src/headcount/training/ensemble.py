"""Several runs that generate as one: what they must have in common, and how they are joined."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headcount.config.schema import Config
from headcount.data.files import digest
from headcount.data.sources import carving_difference, carving_of
from headcount.data.tokenizer import load_tokenizer
from headcount.errors import ConfigError
from headcount.evaluation.rouge import ROUGE_TITLES
from headcount.runs.checkpoint import check_unchanged, checkpoint_path, load_checkpoint
from headcount.runs.folder import RunFile, load_run_config, reject_links
from headcount.training.module import Summarizer
from headcount.wording import join_words

MAX_SHOWN_CHARACTERS = 40  # of a value of a tokenizer in an error
MISSING = "missing"


def check_runs(runs: Sequence[Path], config: Config) -> None:
    """Check that runs, one or several, can generate together by a config.

    They need one tokenizer, and must have been trained to read equally long documents. Their
    architectures and sizes may differ.

    Args:
        runs: run folders or exports; the config is that of the first, perhaps changed.
        config: ``data`` and ``generation`` are used for all of them.

    Raises:
        ConfigError: a run is not complete, a key that shaped the first run's model is changed, or
            a run does not fit the first.
    """
    first, *others = runs
    reject_links(first)
    check_unchanged(first, config)
    if others and config.generation.heads_off:
        raise ConfigError(
            f"generation.heads_off={config.generation.heads_off} does not go with several runs, "
            "whose heads have nothing in common but their names; legal: one run"
        )

    # The others are checked with their own configs, and against the first run.
    for run in others:
        reject_links(run)
        own = load_run_config(run, [])
        check_unchanged(run, own)
        difference = _tokenizer_difference(first, run)
        if difference:
            raise ConfigError(
                f"{run}: its tokenizer is not that of {first}: {difference}; "
                "legal: runs of one tokenizer"
            )
        length = own.data.max_document_tokens
        if length != config.data.max_document_tokens:
            raise ConfigError(
                f"{run}: data.max_document_tokens={length} is not that of {first}; legal: runs "
                f"with {config.data.max_document_tokens}, which read the same document tokens"
            )
        _generate_like(config, run, own)


def check_held_out(runs: Sequence[Path], config: Config) -> None:
    """Check that no run has trained on examples of a carved test split.

    Whoever only summarizes has no test split, and may combine runs of any splits.

    Args:
        runs: run folders or exports; the config is that of the first, perhaps changed.
        config: whose test split is scored.

    Raises:
        ConfigError: a run carved the same training split in another way.
    """
    first, *others = runs
    carving = carving_of(config.data, "test", load_run_config(first, []).data)
    if carving is None:
        return
    for run in others:
        difference = carving_difference(carving, load_run_config(run, []).data)
        if difference is not None:
            raise ConfigError(
                f"{run}: {difference.key}={difference.there} is not that of {first}, and examples "
                "of the test split, which is carved out of the training split, may be among those "
                f"that it has learned from; legal: runs with {difference.key}={difference.here}, "
                "or data.test_split=NAME of a split that is not carved"
            )


def load_runs(summarizer: Summarizer, runs: Sequence[Path]) -> int:
    """Load the best weights of a run for generation; of several runs, as an ensemble.

    Args:
        summarizer: of the first run's config.
        runs: from ``check_runs``.

    Returns:
        The number of training steps of the first run.
    """
    first, *others = runs
    best = load_checkpoint(first, "best")
    summarizer.load_weights(best["state_dict"])

    models = []
    for run in others:
        own = _generate_like(summarizer.config, run, load_run_config(run, []))
        member = Summarizer(own, summarizer.tokenizer)
        member.load_weights(load_checkpoint(run, "best")["state_dict"])
        models.append(member.model)
    if models:
        summarizer.form_ensemble(models)
    step: int = best["global_step"]
    return step


def load_summarizer(runs: Sequence[Path], config: Config) -> Summarizer:
    """Return the summarizer of finished runs, in evaluation mode.

    Args:
        runs: run folders or exports; several are an ensemble.
        config: of the first one, with changes.

    Raises:
        ConfigError: there is no checkpoint, a change is to the trained model, or the runs do not
            go together.
    """
    check_runs(runs, config)
    summarizer = Summarizer(config, load_tokenizer(runs[0] / RunFile.TOKENIZER))
    load_runs(summarizer, runs)
    return summarizer.eval()


def digest_checkpoints(runs: Sequence[Path]) -> str:
    """Return what the best weights of runs are known by."""
    return " ".join(digest(checkpoint_path(run, "best")) for run in runs)


def describe_system(runs: Sequence[Path], config: Config) -> str | None:
    """Return what generates the summaries; None for one model whose search does not optimize the
    metric."""
    parts = []
    if len(runs) > 1:
        names = [run.resolve().name for run in runs]
        is_pooled = (
            config.generation.strategy == "mbr" and config.generation.mbr_candidates == "each"
        )
        how = "candidates" if is_pooled else "ensemble"
        parts.append(f"{how} of {', '.join(names[:-1])} and {names[-1]}")
    if config.generation.strategy == "mbr":
        metrics = [ROUGE_TITLES[name] for name in config.generation.mbr_metrics]
        parts.append(f"minimum Bayes risk, which optimizes {join_words(metrics)}")
    return "; ".join(parts) or None


def relative_names(runs: Sequence[Path], folder: Path) -> list[str]:
    """Return the paths of runs as seen from a folder."""
    return [os.path.relpath(run.resolve(), folder.resolve()) for run in runs]


def _generate_like(config: Config, run: Path, own: Config) -> Config:
    """Return a run's own config with the generation of another.

    Raises:
        ConfigError: its model cannot generate as many tokens.
    """
    try:
        return replace(own, generation=config.generation)
    except ConfigError as error:
        raise ConfigError(f"{run}: {error}") from None


def _tokenizer_difference(first: Path, run: Path) -> str | None:
    """Return the first difference between the tokenizers of two runs, or None."""
    tokenizers = []
    for folder in (first, run):
        path = folder / RunFile.TOKENIZER
        try:
            tokenizers.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not a tokenizer ({type(error).__name__})") from None
    for tokenizer in tokenizers:
        if isinstance(tokenizer, dict):
            tokenizer["post_processor"] = None  # see ``fingerprint``
    return first_difference(*tokenizers)


def first_difference(expected: Any, found: Any, path: str = "") -> str | None:
    """Return the first difference between two values of JSON, or None.

    It has the form ``model.vocab.cat is 7, not 8``.
    """
    if isinstance(expected, list) and isinstance(found, list):
        expected = dict(enumerate(expected))
        found = dict(enumerate(found))
    if not isinstance(expected, dict) or not isinstance(found, dict):
        if expected == found:
            return None
        return f"{path} is {_shown(found)}, not {_shown(expected)}"

    for key in expected | found:
        inner = f"{path}.{key}" if path else str(key)
        difference = first_difference(expected.get(key, MISSING), found.get(key, MISSING), inner)
        if difference:
            return difference
    return None


def _shown(value: Any) -> str:
    text = value if value == MISSING else json.dumps(value, ensure_ascii=False)
    if len(text) <= MAX_SHOWN_CHARACTERS:
        return text
    return f"{text[:MAX_SHOWN_CHARACTERS]}..."
