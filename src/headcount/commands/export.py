"""The command ``export``: the best weights of a run, for use elsewhere or for publication.

``config.json`` is the resolved config without the settings of one machine, ``model.safetensors``
the best weights, ``tokenizer.json`` the tokenizer, and ``README.md`` a model card (Mitchell et al.
2019), which the hub displays. With ``tokenizer_config.json`` and ``generation_config.json`` the
transformers library loads the folder, see ``headcount.hf``. None of the files can run code.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from headcount.config.load import EXPORT_FORMAT, MODEL_TYPE
from headcount.config.sections.model_attention import ATTENTION_SITES
from headcount.data.hub import HUB_ID
from headcount.data.tokenizer import END, START, load_tokenizer, vocabulary_size
from headcount.errors import ConfigError
from headcount.escape import markdown, markdown_code
from headcount.evaluation.corpus_metrics import CORPUS_TITLES
from headcount.evaluation.rouge import ROUGE_TITLES
from headcount.runs.checkpoint import TIED, load_checkpoint
from headcount.runs.files import reject_used_folder, write_folder
from headcount.runs.folder import MACHINE_TRAINER_ARGS, RunFile, reject_links
from headcount.terminal import print_line

# Settings of one machine: whole sections, and keys of other sections. They may be private: the URL
# of an MLflow server may have a password in it.
MACHINE_SECTIONS = ("run", "tracking", "loggers", "callbacks")
MACHINE_KEYS = {"data": ("cache_dir", "num_workers"), "trainer": tuple(MACHINE_TRAINER_ARGS)}


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Facts for the model card that are not in the run folder.

    Attributes:
        license: license of the weights by its name on the hub, such as ``mit``.
        languages: codes of the languages of the summaries, such as ``en``; empty: not stated.
    """

    license: str = "unknown"
    languages: Sequence[str] = ()


def export(run: Path, to: Path, facts: CardFacts | None = None) -> None:
    """Export the best checkpoint of a finished run, and print the size; see ``write_export``."""
    size = write_export(run, to, facts or CardFacts())
    print_line(f"{to}: {size / 1e6:,.1f} MB")


def write_export(run: Path, to: Path, facts: CardFacts) -> int:
    """Export the best checkpoint of a finished run, completely or not at all.

    Args:
        run: the run folder.
        to: the folder to write, which must be new or empty.
        facts: facts for the model card.

    Returns:
        The number of written bytes.

    Raises:
        ConfigError: the run is not finished or damaged, or the folder is not empty or cannot be
            written.
        RunError: the disk is full.
    """
    reject_links(run)
    best = load_checkpoint(run, "best")
    scores = _read_scores(run)
    tokenizer = load_tokenizer(run / RunFile.TOKENIZER)
    reject_used_folder(to)

    # Compute all contents first: a damaged run is found before anything is written.
    try:
        config = _portable(best["config"])
        weights, tied = _untie(best["state_dict"])
        metadata = {"format": "pt", "step": str(best["global_step"]), TIED: json.dumps(tied)}
        card = _card(to.resolve().name, config, weights, scores, facts)
        token_ids = _token_ids(tokenizer)
        hub_keys = {
            "model_type": MODEL_TYPE,
            "architectures": ["HeadcountForSeq2SeqLM"],
            "is_encoder_decoder": True,
            "vocab_size": vocabulary_size(tokenizer),
            **token_ids,
        }
        tokenizer_config = _tokenizer_config(config)
        generation_config = _generation_config(config, token_ids)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{run}: damaged ({type(error).__name__}: {error})") from None

    # The weights are written last: a folder without them is not an export.
    files = {
        RunFile.EXPORTED_CONFIG: _json_bytes(
            {"format_version": EXPORT_FORMAT, **hub_keys, **config}
        ),
        RunFile.TOKENIZER: _with_end_token(tokenizer).to_str(pretty=True).encode(),
        RunFile.TOKENIZER_CONFIG: _json_bytes(tokenizer_config),
        RunFile.GENERATION_CONFIG: _json_bytes(generation_config),
        RunFile.CARD: card.encode(),
        RunFile.WEIGHTS: save(weights, metadata),
    }
    write_folder(to, {name.value: content for name, content in files.items()})
    return sum(map(len, files.values()))


def _json_bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()


def _token_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the ids of the special tokens by their names in the transformers library."""
    ids = tokenizer.get_vocab()
    start_id = ids[START]
    end_id = ids[END]
    return {
        "bos_token_id": start_id,
        "eos_token_id": end_id,
        "pad_token_id": end_id,
        "decoder_start_token_id": start_id,
    }


def _with_end_token(tokenizer: Tokenizer) -> Tokenizer:
    """Make a tokenizer append the end token to each document, as in training.

    In this package batches append it, and the tokenizer is called without special tokens.
    """
    end_id = tokenizer.token_to_id(END)
    tokenizer.post_processor = TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, end_id)]
    )
    return tokenizer


def _tokenizer_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with which the transformers library tokenizes documents as in training.

    Special tokens within a text are treated as text, and long documents are cut.
    """
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["data"]["max_document_tokens"],
    }


def _generation_config(config: dict[str, Any], token_ids: dict[str, int]) -> dict[str, Any]:
    """Return the settings with which the transformers library equals our greedy search."""
    generation = config["generation"]
    settings = {
        "do_sample": False,
        "num_beams": 1,
        "max_new_tokens": generation["max_tokens"],
        "use_cache": False,
        **token_ids,
    }
    if generation["min_tokens"]:
        # Our minimum includes the end token, that of transformers does not.
        settings["min_new_tokens"] = generation["min_tokens"] - 1
    return settings


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
    """Return a resolved config without the settings of one machine, which get their defaults."""
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
    """Store shared weights once, as safetensors requires.

    Returns:
        The weights by one name each, and for each other name of a shared weight the stored name.
    """
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
headcount summarize . notes.txt         # one document per line in, one summary per line out
headcount summarize . documents.jsonl   # JSONL in, JSONL out
headcount summarize . notes.txt generation.strategy=beam
```

From Python:

```python
import headcount

run = headcount.load_run(".")
run.summarize(["A long text."])
```

With the transformers library (`pip install 'headcount[hf]'`), greedily:

```python
import headcount.hf  # registers the model; no code is loaded from this folder
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSeq2SeqLM.from_pretrained(".")
documents = tokenizer(["A long text."], padding=True, truncation=True, return_tensors="pt")
tokenizer.batch_decode(model.generate(**documents), skip_special_tokens=True)
```

## Intended use and limits

For research on summarization and attention: to compare models, and to summarize documents like
those it was trained on. It reads the first {document_tokens} tokens of a document and generates up
to {summary_tokens}. {other_data} Other kinds of text and other languages were not
evaluated. A summary may read well and still state what the document does not: check what matters.
Whatever is one-sided or wrong in the training data may be repeated.

Language: {language}. License of the weights: {license}; the data have their own.

## Files

`config.json` is the resolved config, `model.safetensors` the weights of the best checkpoint by
validation {select_by}, `tokenizer.json` the tokenizer; `tokenizer_config.json` and
`generation_config.json` are for the transformers library. None of them can run code.
"""


def _card(
    name: str,
    config: dict[str, Any],
    weights: dict[str, Tensor],
    scores: dict[str, Any],
    facts: CardFacts,
) -> str:
    """Return the model card as Markdown.

    Every value is escaped: config and scores may be those of a run folder from another person.
    """
    model = config["model"]
    start = model.get("start_from")
    system = scores.get("system")
    heads = [f"{site} {model[f'{site}_heads']}" for site in ATTENTION_SITES[model["architecture"]]]

    # Plain values, which are escaped below.
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
        "language": ", ".join(facts.languages) or "not stated",
        "license": facts.license,
    }

    # Parts that are already Markdown.
    return CARD.format(
        about=_front_matter(name, config, scores, facts),
        table=_score_table(scores),
        signature=markdown_code(scores["signature"]),
        system=f"\nGenerated by {markdown(str(system))}.\n" if system else "",
        alarms="".join(f"\nAlarm: {markdown(alarm)}\n" for alarm in scores["alarms"]),
        **{key: markdown(str(value)) for key, value in values.items()},
    )


def _front_matter(
    name: str, config: dict[str, Any], scores: dict[str, Any], facts: CardFacts
) -> str:
    """Return the YAML header of a model card, which hubs read."""
    # The scores of the model, the first system, in the format of the hub's model index.
    data = config["data"]["path"]
    of_model = next(iter(scores["systems"].values()))
    metrics = []
    for kind, title in _titles(scores).items():
        metric_type = "rouge" if kind in ROUGE_TITLES else kind
        value = round(of_model[kind]["mean"], 2)
        metrics.append({"type": metric_type, "name": title, "value": value})
    results = {
        "task": {"type": "summarization", "name": "Summarization"},
        "dataset": {"type": data, "name": data, "split": scores["split"]},
        "metrics": metrics,
    }

    # The description of the model.
    header: dict[str, Any] = {
        "license": facts.license,
        "library_name": "headcount",
        "pipeline_tag": "summarization",
        "tags": ["summarization", "headcount", config["model"]["architecture"]],
        "metrics": list(dict.fromkeys(metric["type"] for metric in metrics)),
    }
    # The hub lists these scores beside those of other models. Those of a search that optimizes the
    # metric are in the card only, which says so.
    if not scores.get("system"):
        header["model-index"] = [{"name": name, "results": [results]}]
    if facts.languages:
        header["language"] = list(facts.languages)

    # A data set is named only if it is on the hub; a path of the user is not published.
    if "/" in data and HUB_ID.fullmatch(data) and not os.path.exists(data):
        header["datasets"] = [data]
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True)


def _titles(scores: dict[str, Any]) -> dict[str, str]:
    """Return the titles of the metrics that the model has, by their names."""
    of_model = next(iter(scores["systems"].values()))
    return {**ROUGE_TITLES, **{name: t for name, t in CORPUS_TITLES.items() if name in of_model}}


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
