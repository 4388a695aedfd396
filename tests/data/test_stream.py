import json
import os
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from headcount.config.load import load
from headcount.config.sections.data import DataConfig
from headcount.data.batches import Layout
from headcount.data.sources import open_source
from headcount.data.stream import Stream, StreamLoader, read_pairs
from headcount.data.tokenizer import train_tokenizer
from headcount.data.training_examples import ExampleMaker
from headcount.errors import ConfigError

TEXTS = [f"document {n} " * (n % 5 + 1) for n in range(60)]
TOKENIZER = train_tokenizer(TEXTS, "bpe", 280)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Three files of twenty rows, of which every tenth has no summary."""
    (tmp_path / "data").mkdir()
    for file in range(3):
        rows = [
            {"document": TEXTS[n], "summary": "s" if n % 10 else None}
            for n in range(20 * file, 20 * file + 20)
        ]
        (tmp_path / "data" / f"train-{file}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
    return replace(load([], [f"data.path={tmp_path / 'data'}"]).data, streaming=True)


def loader(
    data: DataConfig, process: int = 0, processes: int = 1, *, buffer: int = 10, workers: int = 0
) -> StreamLoader:
    stream = Stream(
        source=open_source(data, "train", remember_digest=True),
        tokenizer=TOKENIZER,
        maker=ExampleMaker(layout=Layout.from_tokenizer(TOKENIZER, 64, 32), seed=0),
        budget=200,
        buffer=buffer,
        process=process,
        processes=processes,
    )
    return StreamLoader(stream, order_settings={"data.batch_tokens": 200}, num_workers=workers)


def rows(given: StreamLoader, batches: int) -> list[list[int]]:
    return [batch.indices for batch in islice(iter(given), batches)]


def test_batches_are_within_the_budget_and_their_texts_right(data: DataConfig) -> None:
    sizes = []
    for batch in islice(iter(loader(data)), 30):
        sizes.append(len(batch.document_ids) + len(batch.summary_ids))
        documents = batch.document_ids.split(batch.document_lengths)
        for row, ids in zip(batch.indices, documents, strict=True):
            assert TOKENIZER.decode(ids[:-1].tolist()) == TEXTS[row].strip()
    assert max(sizes) <= 200 and sum(sizes) / len(sizes) > 120


def test_it_goes_round_without_end_in_a_random_order(data: DataConfig) -> None:
    """All of the first round comes within a buffer's length of its end, each pair once.

    The next is another order.
    """
    found = sum(rows(loader(data), 40), [])
    assert found != sorted(found) and found[:54] != found[54:108]
    assert max(Counter(found[:44]).values()) == 1 and set(found[:90]) == {
        n for n in range(60) if n % 10
    }
    assert found == sum(rows(loader(data), 40), [])


@pytest.mark.parametrize(("processes", "workers"), [(2, 0), (3, 0), (1, 2), (2, 2)])
def test_processes_and_workers_read_different_rows(
    processes: int, workers: int, data: DataConfig
) -> None:
    """Three files go whole to three parts; two or four parts take rows in turn."""
    shares = []
    for process in range(processes):
        batches = islice(iter(loader(data, process, processes, buffer=1, workers=workers)), 20)
        ids = [
            ids[:-1].tolist()
            for batch in batches
            for ids in batch.document_ids.split(batch.document_lengths)
        ]
        shares.append(set(TOKENIZER.decode_batch(ids)))
    assert (
        set.union(*shares) == {TEXTS[n].strip() for n in range(60) if n % 10}
        and sum(map(len, shares)) == 54
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_after_any_batch(workers: int, data: DataConfig) -> None:
    whole = rows(loader(data, workers=workers), 12)
    for cut in (1, 5, 11):
        killed, resumed = loader(data, workers=workers), loader(data, workers=workers)
        handed_out = iter(killed)
        for _ in range(cut):
            next(handed_out)
        resumed.load_state_dict(killed.state_dict())
        assert resumed.state_dict() == killed.state_dict()
        assert rows(resumed, 12 - cut) == whole[cut:]
    with pytest.raises(
        ConfigError, match=r"^processes=2: the run was started with another[^\n]*legal: 1$"
    ):
        loader(data, 0, 2).load_state_dict(whole and loader(data).state_dict())


def test_what_has_no_pair_is_said(data: DataConfig, capsys: pytest.CaptureFixture[str]) -> None:
    source = open_source(data, "train", remember_digest=True)
    assert len(list(read_pairs(source))) == 54
    assert "train: dropped 6 of 60 streamed rows" in capsys.readouterr().out


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_line_is_one_line(workers: int, data: DataConfig) -> None:
    file = Path(data.path) / "train-2.jsonl"
    file.write_text(file.read_text() + '{"document": ')
    with pytest.raises(ConfigError, match=r"^\S*train-2.jsonl:21: not JSON[^\n]*$"):
        rows(loader(data, workers=workers), 99)


@pytest.mark.parametrize(
    "value", ["data.length_pools=4", "data.validation_split=null", "trainer.max_steps=-1"]
)
def test_what_does_not_go_with_a_stream(value: str) -> None:
    with pytest.raises(ConfigError, match=value.replace("null", "None")):
        load([], ["data.streaming=true", value])


def test_the_embedded_data_set_streams_too(
    data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headcount.data.docstrings.build", lambda cache_dir: (Path(data.path), {}))
    source = open_source(replace(data, path="docstrings"), "train", remember_digest=True)
    assert len(list(read_pairs(source))) == 54


def test_more_workers_than_rows(data: DataConfig, tmp_path: Path) -> None:
    """Those without a row do nothing; the batches are those of the others."""
    few = tmp_path / "few"
    few.mkdir()
    (few / "train.jsonl").write_text(
        "".join(json.dumps({"document": t, "summary": "s"}) + "\n" for t in TEXTS[:3])
    )
    given = loader(replace(data, path=str(few)), workers=5, buffer=2)
    assert {index for batch in rows(given, 12) for index in batch} == {0, 1, 2}


def test_a_stream_is_known_by_content(data: DataConfig, tmp_path: Path) -> None:
    """Another file of the same path, size and modification time is another stream."""
    data = replace(data, cache_dir=str(tmp_path / "cache"))
    before = open_source(data, "train", remember_digest=True)
    assert open_source(data, "train", remember_digest=True).sha256 == before.sha256
    file = tmp_path / "data" / "train-1.jsonl"
    status = file.stat()
    file.write_text(file.read_text().replace("document 20 ", "document 99 "))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert open_source(data, "train", remember_digest=True).sha256 != before.sha256
    moved = (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert (
        open_source(replace(data, path=str(moved)), "train", remember_digest=True).sha256
        != before.sha256
    )
    file = moved / "train-1.jsonl"
    file.write_text(file.read_text().replace("document 99 ", "document 20 "))
    assert (
        open_source(replace(data, path=str(moved)), "train", remember_digest=True).sha256
        == before.sha256
    )
