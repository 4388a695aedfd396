"""The command that exports a run, to use it elsewhere or to publish it: files that hold no code
and run none.

``config.json`` is the resolved config without what only concerns the machine,
``model.safetensors`` the best weights, ``tokenizer.json`` the tokenizer, and ``README.md`` a model
card as hubs show it (Mitchell et al. 2019).
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import Tensor

from headcount.config.load import EXPORT_FORMAT
from headcount.data.tokenizer import load_tokenizer
from headcount.errors import ConfigError
from headcount.escape import markdown, markdown_code
from headcount.evaluation.rouge import ROUGE_TYPES
from headcount.evaluation.tables import TITLES
from headcount.runs.checkpoint import TIED, load_checkpoint
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile, reject_links
from headcount.terminal import print_line

LOCAL = {
    "run": None,
    "tracking": None,
    "data": ("cache_dir", "num_workers"),
}  # sections and keys of one machine


def export(run: Path, to: Path) -> None:
    """Export the best checkpoint of a finished run, whole or not at all.

    Args:
        run: the run folder.
        to: the folder to make.

    Raises:
        ConfigError: the run is not finished or damaged, or the folder is there and not empty, or
            cannot be made.
    """
    reject_links(run)
    best, scores = load_checkpoint(run, "best"), _read_scores(run)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to}: there already; legal: a new or an empty folder")
    try:
        config = _portable(best["config"])
        weights, tied = _untie(best["state_dict"])
        metadata = {"format": "pt", "step": str(best["global_step"]), TIED: json.dumps(tied)}
        card = _card(to.resolve().name, config, weights, scores)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{run}: damaged ({type(error).__name__}: {error})") from None
    scratch = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        scratch.mkdir(parents=True)
        try:
            write_atomically(
                scratch / RunFile.EXPORTED_CONFIG,
                json.dumps({"format_version": EXPORT_FORMAT, **config}, indent=2),
            )
            save_file(weights, scratch / RunFile.WEIGHTS, metadata)
            load_tokenizer(run / RunFile.TOKENIZER)  # it is one
            shutil.copyfile(run / RunFile.TOKENIZER, scratch / RunFile.TOKENIZER)
            write_atomically(scratch / RunFile.CARD, card)
            os.replace(scratch, to)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"{to}: cannot be made: {error.strerror}") from None
    print_line(f"{to}: {sum(file.stat().st_size for file in to.iterdir()) / 1e6:,.1f} MB")


def _read_scores(run: Path) -> dict[str, Any]:
    try:
        scores: dict[str, Any] = json.loads((run / RunFile.SCORES).read_text(encoding="utf-8"))
        return scores
    except FileNotFoundError:
        raise ConfigError(
            f"{run}: no scores.json in it; legal: the folder of a finished run"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{run / 'scores.json'}: damaged ({error})") from None


def _portable(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a resolved config without what is of one machine; the defaults stand in for it."""
    kept = {name: section for name, section in plain.items() if LOCAL.get(name, ()) is not None}
    for name, keys in LOCAL.items():
        if keys:
            kept[name] = {key: value for key, value in kept[name].items() if key not in keys}
    return kept


def _untie(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return weights that are stored once each, and for the names of the others by which name they
    go."""
    first: dict[int, str] = {}
    tied = {name: first.setdefault(tensor.data_ptr(), name) for name, tensor in weights.items()}
    kept = {name: tensor.contiguous() for name, tensor in weights.items() if tied[name] == name}
    return kept, {name: known for name, known in tied.items() if known != name}


CARD = """---
{about}---

# {name}

An abstractive summarizer, trained from scratch on {data}: {architecture}, {parameters:,}
parameters, embedding size {embedding_size}; attention heads: {heads}. {steps:,} training steps,
seed {seed}.

## Scores

{table}

F1 x 100 with 95 % bootstrap interval, {signature}.
{alarms}
## Use it

With headcount installed, in this folder:

```bash
headcount summarize . notes.txt         # a document a line in, a summary a line out
headcount summarize . documents.jsonl   # JSONL in, JSONL out
headcount summarize . notes.txt generation.strategy=beam
```

It reads the first {document_tokens:,} tokens of a document and generates up to {summary_tokens:,}.
It was trained on no other data. A summary may read well and still state what the document does
not: check what matters.

## Files

`config.json` is the resolved config, `model.safetensors` the weights of the best checkpoint by
validation {select_by}, `tokenizer.json` the tokenizer. None of them can run code.
"""


def _card(
    name: str, config: dict[str, Any], weights: dict[str, Tensor], scores: dict[str, Any]
) -> str:
    model, data, systems = config["model"], config["data"]["path"], scores["systems"]
    ours = next(iter(systems.values()))
    results = [
        {"type": "rouge", "name": title, "value": round(ours[kind]["mean"], 2)}
        for kind, title in zip(ROUGE_TYPES, TITLES, strict=True)
    ]
    tested = {
        "task": {"type": "summarization", "name": "Summarization"},
        "dataset": {"type": data, "name": data, "split": scores["split"]},
        "metrics": results,
    }
    about = {
        "library_name": "headcount",
        "pipeline_tag": "summarization",
        "metrics": ["rouge"],
        "model-index": [{"name": name, "results": [tested]}],
    }
    titles = [markdown(f"{scores['split']}, {scores['examples']:,} examples"), *TITLES]
    rows = [
        [markdown(system), *map(_score, map(figures.get, ROUGE_TYPES))]
        for system, figures in systems.items()
    ]
    places = {
        "transformer": ("encoder", "decoder", "cross"),
        "gpt": ("decoder",),
        "recurrent": ("cross",),
    }
    return CARD.format(
        about=yaml.safe_dump(about, sort_keys=False, allow_unicode=True),
        name=markdown(name),
        data=markdown(data),
        architecture=model["architecture"],
        parameters=sum(tensor.numel() for tensor in weights.values()),
        embedding_size=model["embedding_size"],
        heads=", ".join(
            f"{place} {model[f'{place}_heads']}" for place in places[model["architecture"]]
        ),
        steps=scores["step"],
        seed=scores["seed"],
        table="\n".join(
            f"| {' | '.join(row)} |" for row in [titles, ["---"] * len(titles), *rows]
        ),
        signature=markdown_code(scores["signature"]),
        alarms="".join(f"\nAlarm: {markdown(alarm)}\n" for alarm in scores["alarms"]),
        document_tokens=config["data"]["max_document_tokens"],
        summary_tokens=config["generation"]["max_tokens"],
        select_by=config["evaluation"]["select_by"],
    )


def _score(figure: dict[str, float] | None) -> str:
    return (
        "-"
        if figure is None
        else f"{figure['mean']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"
    )
