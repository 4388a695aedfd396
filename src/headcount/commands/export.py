"""The command ``export``: the best weights of a run, for use elsewhere or for publication.

``config.json`` is the resolved config without what belongs to one machine, ``model.safetensors``
the best weights, ``tokenizer.json`` the tokenizer, and ``README.md`` a model card as hubs show it
(Mitchell et al. 2019). None of the files can run code.
"""

import errno
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save
from torch import Tensor

from headcount.config.load import EXPORT_FORMAT
from headcount.config.schema import ATTENTION_SITES
from headcount.data.tokenizer import load_tokenizer
from headcount.errors import ConfigError, RunError
from headcount.escape import markdown, markdown_code
from headcount.evaluation.corpus_metrics import CORPUS_TITLES
from headcount.evaluation.rouge import ROUGE_TITLES
from headcount.runs.checkpoint import TIED, load_checkpoint
from headcount.runs.folder import MACHINE_TRAINER_ARGS, RunFile, reject_links
from headcount.terminal import print_line

# What belongs to one machine: whole sections, and keys of the others.
MACHINE_SECTIONS = ("run", "tracking")
MACHINE_KEYS = {"data": ("cache_dir", "num_workers"), "trainer": tuple(MACHINE_TRAINER_ARGS)}


def export(run: Path, to: Path) -> None:
    """Export the best checkpoint of a finished run, completely or not at all.

    Args:
        run: the run folder.
        to: the folder to write, which must be new or empty.

    Raises:
        ConfigError: the run is not finished or damaged, or the folder is not empty or cannot be
            written.
        RunError: the disk is full.
    """
    reject_links(run)
    best = load_checkpoint(run, "best")
    scores = _read_scores(run)
    load_tokenizer(run / RunFile.TOKENIZER)  # a damaged one is reported
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to}: exists, and is not an empty folder; legal: a new or empty one")

    try:
        config = _portable(best["config"])
        weights, tied = _untie(best["state_dict"])
        metadata = {"format": "pt", "step": str(best["global_step"]), TIED: json.dumps(tied)}
        card = _card(to.resolve().name, config, weights, scores)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{run}: damaged ({type(error).__name__}: {error})") from None

    # The weights are last: without them the folder is no export.
    files = {
        RunFile.EXPORTED_CONFIG: _json_bytes({"format_version": EXPORT_FORMAT, **config}),
        RunFile.TOKENIZER: (run / RunFile.TOKENIZER).read_bytes(),
        RunFile.CARD: card.encode(),
        RunFile.WEIGHTS: save(weights, metadata),
    }
    try:
        _write_folder(to.resolve(), files)
    except OSError as error:
        message = f"{to}: cannot be written: {error.strerror}"
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise (RunError if is_full else ConfigError)(message) from None
    print_line(f"{to}: {sum(map(len, files.values())) / 1e6:,.1f} MB")


def _write_folder(to: Path, files: dict[RunFile, bytes]) -> None:
    """Write a folder of files completely or not at all.

    A new folder is renamed into place. An existing empty one stays the same folder, as a user may
    stand in it.
    """
    is_new = not to.exists()
    scratch = to.with_name(f".{to.name}.{os.getpid()}") if is_new else to / f".{os.getpid()}"
    moved = []
    try:
        # Write everything beside its place, and to the disk.
        scratch.mkdir(parents=True)
        for name, content in files.items():
            with (scratch / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

        # Move it into place.
        if is_new:
            os.replace(scratch, to)
            return
        for name in files:
            os.replace(scratch / name, to / name)
            moved.append(to / name)

    # After a failure or a signal the user's folder is as it was.
    except BaseException:
        for path in moved:
            with suppress(OSError):
                path.unlink()
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _json_bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()


def _read_scores(run: Path) -> dict[str, Any]:
    path = run / RunFile.SCORES
    try:
        scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return scores
    except FileNotFoundError:
        raise ConfigError(
            f"{run}: no {path.name} in it; legal: the folder of a finished run"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: damaged ({error})") from None


def _portable(config: dict[str, Any]) -> dict[str, Any]:
    """Return a resolved config without what belongs to one machine. Defaults replace it."""
    portable = {}
    for name, section in config.items():
        if name in MACHINE_SECTIONS:
            continue
        machine_keys = MACHINE_KEYS.get(name)
        if machine_keys is not None:
            section = {key: value for key, value in section.items() if key not in machine_keys}
        portable[name] = section
    return portable


def _untie(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return each weight once, and for the other names of shared ones the name it is stored by."""
    name_by_address: dict[int, str] = {}
    unique = {}
    tied = {}
    for name, tensor in weights.items():
        first = name_by_address.setdefault(tensor.data_ptr(), name)
        if first == name:
            unique[name] = tensor.contiguous()
        else:
            tied[name] = first
    return unique, tied


# The model card

CARD = """---
{about}---

# {name}

An abstractive summarizer, {origin} {data}: {architecture}, {parameters}
parameters, embedding size {embedding_size}; attention heads: {heads}. {steps} training steps,
seed {seed}.

## Scores

{table}

F1 x 100 with 95 % bootstrap interval, {signature}.
{system}{alarms}
## Use it

With headcount installed, in this folder:

```bash
headcount summarize . notes.txt         # a document a line in, a summary a line out
headcount summarize . documents.jsonl   # JSONL in, JSONL out
headcount summarize . notes.txt generation.strategy=beam
```

It reads the first {document_tokens} tokens of a document and generates up to {summary_tokens}.
{other_data} A summary may read well and still state what the document does
not: check what matters.

## Files

`config.json` is the resolved config, `model.safetensors` the weights of the best checkpoint by
validation {select_by}, `tokenizer.json` the tokenizer. None of them can run code.
"""


def _card(
    name: str, config: dict[str, Any], weights: dict[str, Tensor], scores: dict[str, Any]
) -> str:
    """Return the model card.

    Every value is escaped: config and scores may come from somebody else's run folder.
    """
    model = config["model"]
    start = model.get("start_from")
    system = scores.get("system")
    heads = [f"{site} {model[f'{site}_heads']}" for site in ATTENTION_SITES[model["architecture"]]]

    # Single values, each escaped below.
    values = {
        "name": name,
        "data": config["data"]["path"],
        "origin": "trained from scratch on" if start is None else "fine-tuned on",
        "other_data": "It was trained on no other data."
        if start is None
        else f"Its first weights are those of another run, {start}.",
        "architecture": model["architecture"],
        "parameters": f"{sum(tensor.numel() for tensor in weights.values()):,}",
        "embedding_size": model["embedding_size"],
        "heads": ", ".join(heads),
        "steps": f"{scores['step']:,}",
        "seed": scores["seed"],
        "document_tokens": f"{config['data']['max_document_tokens']:,}",
        "summary_tokens": f"{config['generation']['max_tokens']:,}",
        "select_by": config["evaluation"]["select_by"],
    }

    # Parts that are Markdown already.
    return CARD.format(
        about=_front_matter(name, config, scores),
        table=_score_table(scores),
        signature=markdown_code(scores["signature"]),
        system=f"\nGenerated by {markdown(str(system))}.\n" if system else "",
        alarms="".join(f"\nAlarm: {markdown(alarm)}\n" for alarm in scores["alarms"]),
        **{key: markdown(str(value)) for key, value in values.items()},
    )


def _front_matter(name: str, config: dict[str, Any], scores: dict[str, Any]) -> str:
    """Return the YAML header of a model card, which hubs read."""
    data = config["data"]["path"]
    ours = next(iter(scores["systems"].values()))
    metrics = []
    for kind, title in _titles(scores).items():
        metric_type = "rouge" if kind in ROUGE_TITLES else kind
        value = round(ours[kind]["mean"], 2)
        metrics.append({"type": metric_type, "name": title, "value": value})
    results = {
        "task": {"type": "summarization", "name": "Summarization"},
        "dataset": {"type": data, "name": data, "split": scores["split"]},
        "metrics": metrics,
    }
    header = {
        "library_name": "headcount",
        "pipeline_tag": "summarization",
        "metrics": list(dict.fromkeys(metric["type"] for metric in metrics)),
        "model-index": [{"name": name, "results": [results]}],
    }
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True)


def _titles(scores: dict[str, Any]) -> dict[str, str]:
    """Return the titles of the metrics that the model has, by their names."""
    ours = next(iter(scores["systems"].values()))
    return {**ROUGE_TITLES, **{name: t for name, t in CORPUS_TITLES.items() if name in ours}}


def _score_table(scores: dict[str, Any]) -> str:
    titles = _titles(scores)
    title = markdown(f"{scores['split']}, {scores['examples']:,} examples")
    rows = [[title, *titles.values()], ["---"] * (len(titles) + 1)]
    for system, metrics in scores["systems"].items():
        rows.append([markdown(system), *(_interval(metrics.get(kind)) for kind in titles)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _interval(metric: dict[str, float] | None) -> str:
    if metric is None:
        return "-"
    return f"{metric['mean']:.2f} [{metric['low']:.2f}, {metric['high']:.2f}]"
