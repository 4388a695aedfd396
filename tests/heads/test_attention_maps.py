from pathlib import Path

import numpy as np
import pytest
import torch

import headcount
from headcount.data.tokenizer import END
from headcount.heads.attention_maps import attention_maps, document_part, maps_of_text
from headcount.model.attention_blocks import attention_blocks
from headcount.model.ragged import BatchLayout
from headcount.training.module import shift_by_one
from tests.heads.examples import data_batch
from tests.model.builds import ARCHITECTURES, make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_are_distributions_over_the_allowed_keys(architecture: str) -> None:
    model = make(architecture).eval()
    for example in data_batch().pieces(1):
        maps = attention_maps(model, example)
        assert [attention.block for attention in maps] == list(attention_blocks(model))
        for attention in maps:
            heads, queries, keys = attention.weights.shape
            assert heads == 4
            assert attention.allowed.shape == (queries, keys)
            assert len(attention.query_ids) == queries and len(attention.key_ids) == keys
            np.testing.assert_allclose(attention.weights.sum(-1), 1.0)
            assert (attention.weights[:, ~attention.allowed] == 0).all()
            if attention.positions is not None:
                same = attention.key_ids[attention.positions] == attention.query_ids
                assert same.all()


def test_cross_attention_is_that_of_the_model() -> None:
    model = make("transformer").eval()
    example = next(data_batch().pieces(1))
    inputs, targets, layout = shift_by_one(example.summary_ids, example.summary_lengths)
    output = model(
        example.document_ids,
        BatchLayout.from_lengths(example.document_lengths),
        inputs,
        layout,
        return_weights=True,
    )
    maps = {attention.block: attention for attention in attention_maps(model, example)}
    np.testing.assert_allclose(maps["cross.1"].weights, output.weights[1][0].detach().numpy())
    assert maps["cross.1"].next_ids is not None
    assert maps["cross.1"].next_ids.tolist() == targets.tolist()
    assert maps["cross.1"].query_ids.tolist() == inputs.tolist()


def test_a_decoder_only_model_attends_to_document_and_summary() -> None:
    model = make("gpt").eval()
    example = next(data_batch().pieces(1))
    sources = example.document_lengths[0]
    first, last = attention_maps(model, example)
    everything = [*example.document_ids.tolist(), *example.summary_ids[:-1].tolist()]
    assert first.key_ids.tolist() == everything
    assert first.next_ids is not None
    assert first.next_ids.tolist() == [*everything[1:], int(example.summary_ids[-1])]
    assert last.query_ids.tolist() == everything[sources:]

    part = document_part(first, sources)
    assert part.positions is None and part.weights.shape[1:] == (
        len(example.summary_ids) - 1,
        sources,
    )
    np.testing.assert_allclose(part.weights.sum(-1), 1.0)
    assert part.next_ids is not None
    assert part.next_ids.tolist() == example.summary_ids[1:].tolist()
    np.testing.assert_allclose(document_part(last, sources).weights.sum(-1), 1.0)


def test_a_summary_that_was_cut_has_no_end_token(finished_run: Path) -> None:
    cut = ["generation.min_tokens=3", "generation.max_tokens=3"]
    module = headcount.load_run(finished_run, cut).module
    maps = {each.block: each for each in maps_of_text(module, "Ben buys a pear.")}
    written = maps["cross.0"].next_ids
    assert written is not None and len(written) == 3
    assert module.token_ids[END] not in written.tolist()


def test_hooks_are_removed() -> None:
    model = make("transformer").eval()
    example = next(data_batch().pieces(1))
    attention_maps(model, example)
    for block in attention_blocks(model).values():
        assert not block._forward_hooks and not block._forward_pre_hooks
    assert torch.is_grad_enabled()
