import numpy as np
import pytest
import torch

from headcount.data.module import EncodedPairs, SummarizationDataModule, TokenBudgetSampler
from headcount.data.source import Pairs
from headcount.data.tokenizer import END, START


def lengths(number: int = 500, longest: int = 60) -> list[int]:
    return np.random.default_rng(0).integers(1, longest, number).tolist()


@pytest.mark.parametrize(("number", "budget"), [(500, 60), (500, 400), (3, 1000), (1, 60)])
def test_every_example_once_within_the_budget(number: int, budget: int) -> None:
    sampler = TokenBudgetSampler(lengths(number), budget=budget, seed=0)
    for epoch in range(20):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(example for batch in batches for example in batch) == list(range(number))
        assert all(batches) and max(sum(sampler.lengths[e] for e in batch) for batch in batches) <= budget


def test_batches_are_nearly_full() -> None:
    sampler = TokenBudgetSampler(lengths(5000), budget=1000, seed=0)
    assert sum(sampler.lengths) / (len(sampler) * 1000) > 0.95


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first, second = (TokenBudgetSampler(lengths(), budget=400, seed=0) for _ in range(2))
    list(first)
    first.set_epoch(1)
    second.set_epoch(1)
    assert list(first) == list(second)
    second.set_epoch(2)
    assert list(first) != list(second)
    assert list(first) != list(TokenBudgetSampler(lengths(), budget=400, seed=1))


def test_neighbours_are_not_sorted_by_length() -> None:
    sampler = TokenBudgetSampler(lengths(5000), budget=1000, seed=0)
    order = np.array([sampler.lengths[e] for batch in sampler for e in batch])
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.05


def test_batch_is_its_examples_end_to_end(small) -> None:
    data = SummarizationDataModule(small()[0])
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
    data = SummarizationDataModule(small()[0])
    data.setup()
    pairs = Pairs(ids=["a", "b"], documents=["Ada " * 50, "Ada"], references=[["Ben " * 50], ["Ben"]])
    split = EncodedPairs(pairs, data.tokenizer, max_document_tokens=10, max_summary_tokens=6)
    assert (split.cut_documents, split.cut_summaries) == (1, 1)
    batch = split.batch([0])
    assert batch.document_lengths == [10] and batch.summary_lengths == [6]
    assert batch.document_ids[-1] == batch.summary_ids[-1] == data.tokenizer.token_to_id(END)


def test_tokenizer_sees_the_training_split_alone(small, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    from headcount.data import module

    real = module.prepare_tokenizer
    monkeypatch.setattr(module, "prepare_tokenizer", lambda texts, *rest: seen.extend(texts) or real(texts, *rest))
    data = SummarizationDataModule(small()[0])
    data.setup()
    train = data.splits["train"].pairs
    assert seen == train.documents + [references[0] for references in train.references]


def test_decoding_goes_by_length_and_covers_everything(small) -> None:
    data = SummarizationDataModule(small("decoding.batch_size=5", "evaluation.validation_examples=7")[0])
    data.setup()
    batches = list(data.predict_dataloader())
    assert sorted(i for batch in batches for i in batch.indices) == list(range(12))
    flat = [length for batch in batches for length in batch.document_lengths]
    assert flat == sorted(flat, reverse=True)
    samples = [[i for batch in data.val_dataloader() for i in batch.indices] for _ in range(2)]
    assert samples[0] == samples[1] and len(samples[0]) == 7
