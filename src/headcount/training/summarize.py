"""The command that summarizes new documents."""

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from headcount.config import Config
from headcount.data.module import EncodedPairs, by_length
from headcount.data.pairs import Pairs
from headcount.data.source import read_documents
from headcount.data.tokenizer import load_tokenizer
from headcount.model.search import Hypothesis
from headcount.training.checkpoint import check_unchanged, load_checkpoint
from headcount.training.progress import bar
from headcount.training.summarizer import Summarizer


def summarize(run: Path, config: Config, plain: dict[str, Any], file: str) -> None:
    """Summarize new documents, to standard output.

    Args:
        run: the run folder.
        config: the run's config, perhaps changed.
        plain: the same as a nested dict.
        file: text, a document a line, or JSONL, an object a line; ``-`` is standard input. JSONL comes out with all
            ``decoding.returned`` summaries and their scores, if those are several.

    Raises:
        ConfigError: the run is not complete, a key that shaped its model is changed, or a line cannot be read.
    """
    check_unchanged(run, plain)
    tokenizer = load_tokenizer(run / "tokenizer.json")
    summarizer = Summarizer(config, plain, tokenizer)
    summarizer.configure_model()
    summarizer.load_state_dict(load_checkpoint(run, "best")["state_dict"])
    summarizer.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    size, limits = config.decoding.batch_size, (config.data.max_document_tokens, config.data.max_summary_tokens)
    documents = read_documents(file, config.data.document_columns)
    with bar(Console(stderr=True)) as progress:
        task = progress.add_task("writing summaries", total=None, note="", visible=not sys.stdout.isatty())
        while chunk := list(islice(documents, 8 * size)):
            texts = [text for _, text in chunk]
            pairs = EncodedPairs(Pairs(ids=[], documents=texts, references=[[""]] * len(texts)), tokenizer, *limits)
            found: list[list[Hypothesis]] = [[Hypothesis([], 0.0, ended=True)] for _ in texts]  # of an empty document
            for rows in by_length(pairs, [row for row, text in enumerate(texts) if text.strip()], size):
                for row, hypotheses in zip(rows, summarizer.write(pairs.batch(rows)), strict=True):
                    found[row] = hypotheses
            for (identifier, _), hypotheses in zip(chunk, found, strict=True):
                summaries = [{"summary": summarizer.text_of(each), "score": each.score} for each in hypotheses]
                out = {"id": identifier, "summary": summaries[0]["summary"]}
                if config.decoding.returned > 1:
                    out["summaries"] = summaries
                print(out["summary"] if identifier is None else json.dumps(out, ensure_ascii=False), flush=True)
            progress.advance(task, len(chunk))
