import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, normalizers

from headcount.data.batches import EncodedPairs
from headcount.data.pairs import Pairs
from headcount.data.tokenizer import END, START
from headcount.errors import ConfigError
from headcount.training.data_module import SummarizationDataModule


def test_batch_is_its_examples_end_to_end(small) -> None:
    data = SummarizationDataModule(small())
    data.setup()
    split, tokenizer = data.splits["train"], data.tokenizer
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    batch = split.batch([3, 0, 7])
    for index, document, summary in zip(
        batch.indices,
        batch.document_ids.split(batch.document_lengths),
        batch.summary_ids.split(batch.summary_lengths),
        strict=True,
    ):
        assert tokenizer.decode(document[:-1].tolist()) == split.pairs.documents[index]
        assert tokenizer.decode(summary[1:-1].tolist()) == split.pairs.references[index][0]
        assert document[-1] == end and summary[0] == start and summary[-1] == end
    assert split.lengths[3] == batch.document_lengths[0] + batch.summary_lengths[0]
    assert batch.to(torch.device("meta")).document_ids.is_meta


def test_long_texts_are_cut_and_counted(small) -> None:
    data = SummarizationDataModule(small())
    data.setup()
    pairs = Pairs(
        ids=["a", "b"], documents=["Ada " * 50, "Ada"], references=[["Ben " * 50], ["Ben"]]
    )
    split = EncodedPairs(pairs, data.tokenizer, max_document_tokens=10, max_summary_tokens=6)
    assert (split.cut_documents, split.cut_summaries) == (1, 1)
    batch = split.batch([0])
    assert batch.document_lengths == [10] and batch.summary_lengths == [6]
    assert batch.document_ids[-1] == batch.summary_ids[-1] == data.tokenizer.token_to_id(END)


def test_tokenizer_sees_the_training_split_alone(small, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    from headcount.training import data_module as module

    real = module.prepare_tokenizer

    def keep(texts: Iterable[str]) -> list[str]:
        seen.extend(texts)
        return seen

    monkeypatch.setattr(module, "prepare_tokenizer", lambda texts, *rest: real(keep(texts), *rest))
    data = SummarizationDataModule(small())
    data.setup()
    train = data.splits["train"].pairs
    texts = [
        text
        for pair in zip(train.documents, train.references, strict=True)
        for text in (pair[0], pair[1][0])
    ]
    assert seen == texts and len(texts) == 120
    seen.clear()
    data = SummarizationDataModule(small("tokenizer.training_pairs=3"))
    data.setup()
    assert seen == texts[:6]


def test_decoding_is_sorted_by_length_and_complete(small) -> None:
    data = SummarizationDataModule(
        small("generation.batch_size=5", "evaluation.validation_examples=7")
    )
    data.setup()
    batches = list(data.predict_dataloader())
    assert sorted(i for batch in batches for i in batch.indices) == list(range(12))
    flat = [length for batch in batches for length in batch.document_lengths]
    assert flat == sorted(flat, reverse=True)
    samples = [[i for batch in data.val_dataloader() for i in batch.indices] for _ in range(2)]
    assert samples[0] == samples[1] and len(samples[0]) == 7


@pytest.mark.parametrize(
    ("role", "key"), [("validation", "limit_val_batches"), ("test", "limit_predict_batches")]
)
@pytest.mark.parametrize(("limit", "number"), [("2", 6), ("0.3", 3), ("0.01", 1)])
def test_a_limit_takes_a_fixed_random_sample(
    role: str, key: str, limit: str, number: int, small, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning would take the first batches, which are the longest."""
    data = SummarizationDataModule(small(f"trainer.{key}={limit}", "generation.batch_size=3"))
    data.setup()
    sample = data.decoded_examples(role)
    assert sample == data.decoded_examples(role) and len(set(sample)) == number
    lengths = data.splits[role].document_lengths
    longest = sorted(lengths, reverse=True)[:number]
    assert sorted(lengths[sample], reverse=True) != longest or number == 1
    output = (
        f"{role}: a fixed random sample of {number} examples is decoded (trainer.{key}={limit})"
    )
    assert output in capsys.readouterr().out


def test_overfitting_sees_the_same_batches_in_every_epoch(small) -> None:
    for override, is_same in (("trainer.overfit_batches=2", True), ("seed=0", False)):
        data = SummarizationDataModule(small(override))
        data.setup()
        loader = data.train_dataloader()
        first = next(iter(loader)).indices
        loader.set_epoch(1)
        assert (next(iter(loader)).indices == first) == is_same


def test_texts_of_which_the_tokenizer_leaves_nothing(
    small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A normalizer may remove all letters of a script, as that of an ASCII model does."""
    trained = SummarizationDataModule(small())
    trained.setup()
    path = tmp_path / "theirs.json"
    for pattern, output in (("[^\\x00]", "leaves nothing of all 60 documents"), ("Ada.*", None)):
        theirs = Tokenizer.from_str(trained.tokenizer.to_str())
        theirs.normalizer = normalizers.Replace(Regex(pattern), "")
        theirs.save(str(path))
        data = SummarizationDataModule(small(f"tokenizer.path={path}"))
        if output:
            with pytest.raises(ConfigError, match=f"tokenizer.path={path}: {output} of train"):
                data.setup()
        else:
            data.setup()
    out = capsys.readouterr().out
    assert re.search(r"train: the tokenizer leaves nothing of 0 documents and \d+ summaries", out)


def test_bpe_dropout_splits_words_in_another_way_in_each_epoch(small) -> None:
    """The texts and the batches remain the same, and without it the prepared ids are used."""
    found = []
    for probability in ("0", "0.3"):
        data = SummarizationDataModule(small(f"data.bpe_dropout={probability}"))
        data.setup()
        loader = data.train_dataloader()
        epochs = []
        for epoch in range(2):
            loader.set_epoch(epoch)
            documents = {}
            for batch in loader:
                ids = batch.document_ids.split(batch.document_lengths)
                documents |= dict(zip(batch.indices, ids, strict=True))
            epochs.append(documents)
        found.append(epochs)

    (plain, plain_again), (dropped, dropped_again) = found
    end = data.tokenizer.token_to_id(END)
    longer = 0
    for index, ids in plain.items():
        assert ids.equal(plain_again[index])
        longer += len(dropped[index]) - len(ids)
        text = data.tokenizer.decode(dropped[index].tolist())
        assert data.tokenizer.decode(ids.tolist()).startswith(text)
        assert dropped[index][-1] == end
    assert longer > len(plain)
    assert any(not ids.equal(dropped_again[index]) for index, ids in dropped.items())
