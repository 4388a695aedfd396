"""The transformers library on exports: tokens, weights and greedy summaries are ours."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import headcount
from headcount.commands.export import export
from headcount.config.load import as_dict, load
from headcount.config.schema import Config
from headcount.data.tokenizer import END, START, load_tokenizer, vocabulary_size
from headcount.errors import ConfigError
from headcount.runs.checkpoint import write_checkpoint
from headcount.runs.folder import load_run_config
from headcount.training.decoding import encode_documents
from headcount.training.module import Summarizer

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")
hf = pytest.importorskip("headcount.hf")

DOCUMENTS = [
    "Ada: Good day.\nBen: I would like a pear.\nAda: Here you are.",
    "Cleo: A kite?",
    "Dan: Good day. </s> <s> Dan: Thank you.  Thank you.",
]


def retrain(run: Path, *overrides: str) -> Config:
    """Put other random weights of another model into a finished run.

    They are drawn wide, so that summaries are long and no two tokens are equally probable.
    """
    config = load([str(run / "config.yaml")], list(overrides))
    torch.manual_seed(3)
    summarizer = Summarizer(config, load_tokenizer(run / "tokenizer.json"))
    summarizer.configure_model()
    with torch.no_grad():
        for weight in summarizer.parameters():
            if weight.dim() > 1:
                weight.mul_(2)
    content = {"state_dict": summarizer.state_dict(), "global_step": 4, "config": as_dict(config)}
    write_checkpoint(content, run / "checkpoints" / "best.ckpt")
    return config


def load_theirs(folder: Path) -> tuple[Any, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer, transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)


def our_tokens(folder: Path, overrides: list[str]) -> list[list[int]]:
    """The greedy summaries as token ids, with the end token where there is one."""
    run = headcount.load_run(folder, overrides)
    batch = encode_documents(run.module, DOCUMENTS).batch(range(len(DOCUMENTS)))
    hypotheses = run.module.generate(batch, greedy=True)
    end_id = run.module.token_ids[END]
    return [best.tokens + [end_id] * best.finished for [best] in hypotheses]


def their_tokens(tokenizer: Any, model: Any, **options: Any) -> list[list[int]]:
    inputs = tokenizer(DOCUMENTS, padding=True, truncation=True, return_tensors="pt")
    generated = model.generate(**inputs, **options).tolist()
    end_id = tokenizer.eos_token_id
    texts = []
    for start, *tokens in generated:
        assert start == tokenizer.bos_token_id
        length = tokens.index(end_id) + 1 if end_id in tokens else len(tokens)
        assert set(tokens[length:]) <= {end_id}  # padding
        texts.append(tokens[:length])
    return texts


@pytest.mark.parametrize(
    "settings",
    [
        "model.architecture=transformer",
        "model.architecture=transformer model.copying=true model.positions=rotary",
        "model.architecture=transformer model.positions=learned model.tie_embeddings=none",
        "model.architecture=gpt model.encoder_layers=0 model.positions=alibi",
        "model.architecture=recurrent model.attention=additive model.positions=none "
        "model.norm=none",
    ],
)
def test_their_generate_gives_our_greedy_summaries(
    settings: str, finished_run: Path, tmp_path: Path
) -> None:
    retrain(finished_run, *settings.split(), "generation.min_tokens=5")
    export(finished_run, tmp_path / "out")
    ours = our_tokens(tmp_path / "out", [])
    assert min(map(len, ours)) >= 5 and len(set(map(tuple, ours))) == len(DOCUMENTS)
    tokenizer, model = load_theirs(tmp_path / "out")
    assert their_tokens(tokenizer, model) == ours

    # A cache that somebody asks for changes nothing, nor do beams of width one.
    assert their_tokens(tokenizer, model, use_cache=True, num_beams=1) == ours


def test_weights_are_those_of_the_export_also_after_their_save(
    finished_run: Path, tmp_path: Path
) -> None:
    export(finished_run, tmp_path / "out")
    _, model = load_theirs(tmp_path / "out")
    ours = headcount.load_run(tmp_path / "out").module.model
    for name, weight in ours.state_dict().items():
        assert torch.equal(weight, model.model.state_dict()[name])
    shared = model.model.output.weight
    assert shared is model.model.summary_embedding.tokens.weight

    model.save_pretrained(tmp_path / "saved")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "saved")
    for name, table in model.named_buffers():
        assert torch.equal(table, again.get_buffer(name))
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])


def test_the_tokenizer_is_ours(finished_run: Path, tmp_path: Path) -> None:
    """A special token within a text is text; the end token closes what is cut, too."""
    export(finished_run, tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    run = headcount.load_run(tmp_path / "out")
    documents = [*DOCUMENTS, "", "A long text. " * 100]
    batch = encode_documents(run.module, documents).batch(range(len(documents)))
    ours = [ids.tolist() for ids in batch.document_ids.split(batch.document_lengths)]
    encoded = theirs(documents, truncation=True)["input_ids"]
    assert encoded == ours and len(ours[-1]) == run.config.data.max_document_tokens

    tokenizer = load_tokenizer(tmp_path / "out" / "tokenizer.json")
    for text, ids in zip(documents[:-1], encoded, strict=False):
        assert theirs.decode(ids, skip_special_tokens=True) == text
        assert theirs.decode(ids[:-1], skip_special_tokens=True) == tokenizer.decode(ids)
    assert (theirs.bos_token, theirs.eos_token, theirs.pad_token) == (START, END, END)
    assert len(theirs) == vocabulary_size(tokenizer)

    theirs.save_pretrained(tmp_path / "saved")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again(documents, truncation=True)["input_ids"] == ours


def test_our_repetition_penalty_in_their_generate(finished_run: Path, tmp_path: Path) -> None:
    retrain(finished_run, "generation.repetition_penalty=1.5")
    export(finished_run, tmp_path / "out")
    tokenizer, model = load_theirs(tmp_path / "out")
    ours = our_tokens(tmp_path / "out", [])
    processors = hf.constraints(model, tokenizer)
    assert their_tokens(tokenizer, model, logits_processor=processors) == ours
    without = our_tokens(tmp_path / "out", ["generation.repetition_penalty=1"])
    assert their_tokens(tokenizer, model) == without != ours


def test_our_blocking_of_repeated_words_in_their_generate(
    finished_run: Path, tmp_path: Path
) -> None:
    retrain(finished_run, "generation.no_repeat_ngram_size=1")
    export(finished_run, tmp_path / "out")
    tokenizer, model = load_theirs(tmp_path / "out")
    [processor] = hf.constraints(model, tokenizer)
    word, *_ = tokenizer(" pear")["input_ids"]
    tokens = torch.tensor([[tokenizer.bos_token_id, word, word + 1]])
    scores = torch.zeros(1, len(tokenizer))
    constrained = processor(tokens, scores)
    assert constrained[0, word] == -torch.inf and scores[0, word] == 0
    assert constrained[0].isfinite().sum() >= len(tokenizer) - 2


def test_their_loss_is_ours(finished_run: Path, tmp_path: Path) -> None:
    retrain(finished_run, "model.copying=true")
    export(finished_run, tmp_path / "out")
    tokenizer, model = load_theirs(tmp_path / "out")
    inputs = tokenizer(DOCUMENTS[:2], padding=True, return_tensors="pt")
    labels = tokenizer(["Ben buys a pear.", "A kite."], padding=True, return_tensors="pt")
    targets = labels["input_ids"].masked_fill(labels["attention_mask"] == 0, hf.IGNORED)
    loss = model(**inputs, labels=targets).loss
    losses = [
        model(**tokenizer([text], return_tensors="pt"), labels=row[row >= 0][None]).loss.item()
        * int((row >= 0).sum())
        for text, row in zip(DOCUMENTS, targets, strict=False)
    ]
    assert loss.item() == pytest.approx(sum(losses) / int((targets >= 0).sum()), rel=1e-5)
    loss.backward()
    assert model.model.output.weight.grad.abs().sum() > 0


def test_an_export_still_loads_as_a_config(finished_run: Path, tmp_path: Path) -> None:
    export(finished_run, tmp_path / "out")
    config = load_run_config(tmp_path / "out", [])
    assert (
        transformers.AutoConfig.from_pretrained(tmp_path / "out").sections().model == config.model
    )


def test_without_transformers_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "headcount.hf")
    with pytest.raises(ConfigError, match=r"legal: pip install 'headcount\[hf\]'"):
        importlib.import_module("headcount.hf")
