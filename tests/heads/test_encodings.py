"""Encodings that are remembered are those that would be computed again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from headcount.config.sections.generation import GenerationConfig
from headcount.generation.generate import generate
from headcount.generation.hypothesis import Hypothesis
from headcount.heads.ablation import HeadOutputs, ablated, record_outputs
from headcount.heads.blocks import Head, Model, heads_of
from headcount.heads.encodings import Encodings
from headcount.heads.importance import example_losses
from headcount.model.attention import MultiHeadAttention
from headcount.model.attention_blocks import attention_blocks
from headcount.model.ragged import BatchLayout
from tests.heads.examples import data_batch
from tests.model.builds import ARCHITECTURES, OUTPUTS, make

KINDS = [(name, *output) for name in ARCHITECTURES for output in OUTPUTS]
ENCODER_HEAD = Head(site="encoder", layer=0, index=1)

every = pytest.mark.parametrize("kind", KINDS, ids=" ".join)


def losses_and_summaries(model: Model) -> tuple[Tensor, list[list[Hypothesis]]]:
    # The longest document first, as a search sorts them.
    batch = data_batch().select([2, 0, 3, 1])
    with torch.inference_mode():
        summaries = generate(
            model,
            batch.document_ids,
            BatchLayout.from_lengths(batch.document_lengths),
            GenerationConfig(max_tokens=5),
            start_id=0,
            end_id=1,
        )
        return example_losses(model, batch), summaries


def assert_equal(found: tuple, expected: tuple) -> None:
    assert torch.equal(found[0], expected[0])
    assert found[1] == expected[1]


@pytest.fixture
def count_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[Model], list[int]]:
    """Return a function that begins to count how often a model's encoder reads documents."""

    def count(model: Model) -> list[int]:
        calls: list[int] = []
        compute = type(model).encode

        def encode(self: Model, document_ids_N: Tensor, layout: BatchLayout) -> object:
            calls.append(1)
            return compute(self, document_ids_N, layout)

        monkeypatch.setattr(type(model), "encode", encode)
        return calls

    return count


@every
def test_every_head_off_gives_what_it_gives_without_them(kind: tuple[str, ...]) -> None:
    """Encoder heads too, and the complete model after them."""
    model = make(*kind).eval()
    encodings = Encodings()
    for removed in [None, *heads_of(model), None]:
        with ablated(model, [removed] if removed else []):
            expected = losses_and_summaries(model)
            with encodings.used_by(model):
                assert_equal(losses_and_summaries(model), expected)


@pytest.mark.parametrize("kind", [k for k in KINDS if k[0] != "gpt"], ids=" ".join)
def test_the_encoder_reads_documents_once_for_each_setting_of_its_heads(
    kind: tuple[str, ...], count_calls: Callable[[Model], list[int]]
) -> None:
    model = make(*kind).eval()
    encodings = Encodings()
    other = Head(site="cross", layer=0, index=0)
    settings = [([], 0), ([other], 0), ([ENCODER_HEAD], 1), ([], 0), ([ENCODER_HEAD, other], 0)]
    if kind[0] == "recurrent":  # its encoder has no heads
        settings = [([], 0), ([other], 0)]

    calls = count_calls(model)
    with encodings.used_by(model):
        losses_and_summaries(model)
    assert len(calls) == 1
    for removed, times in settings:
        calls.clear()
        with ablated(model, removed), encodings.used_by(model):
            losses_and_summaries(model)
        assert len(calls) == times


def test_a_decoder_only_model_is_left_alone() -> None:
    model = make("gpt").eval()
    with Encodings().used_by(model):
        assert "encode" not in vars(model)


def test_afterwards_a_model_encodes_by_itself() -> None:
    model = make("transformer").eval()
    encodings = Encodings()
    with pytest.raises(ZeroDivisionError), encodings.used_by(model):
        assert "encode" in vars(model)
        raise ZeroDivisionError
    assert "encode" not in vars(model)
    assert all("project_memory" not in vars(block) for block in attention_blocks(model).values())


@pytest.mark.parametrize("kind", ["mean", "resample"])
def test_outputs_that_are_replaced_in_the_encoder_are_not_remembered(kind) -> None:
    """Resampling draws again each time, and other numbers for other seeds."""
    model = make("transformer").eval()
    outputs: HeadOutputs = record_outputs(model, [data_batch()])
    encodings = Encodings()
    for seed in (0, 1):
        with ablated(model, [ENCODER_HEAD], kind, outputs=outputs, seed=seed):
            expected = losses_and_summaries(model)
        replaced = ablated(model, [ENCODER_HEAD], kind, outputs=outputs, seed=seed)
        with replaced, encodings.used_by(model):
            assert_equal(losses_and_summaries(model), expected)


def test_the_least_recently_used_encodings_are_forgotten(
    count_calls: Callable[[Model], list[int]],
) -> None:
    model = make("transformer").eval()
    layout = BatchLayout.from_lengths([2])
    first, second, third = (torch.tensor([token, token]) for token in (1, 2, 3))
    one = 2 * 16 * 8  # two tokens, 16 wide, float64
    encodings = Encodings(max_bytes=2 * one)
    calls = count_calls(model)
    with encodings.used_by(model), torch.inference_mode():
        for ids, times in [(first, 1), (second, 1), (first, 0), (third, 1), (first, 0)]:
            calls.clear()
            model.encode(ids, layout)
            assert len(calls) == times
        assert encodings.bytes == 2 * one
        calls.clear()
        model.encode(second, layout)
        assert len(calls) == 1


def test_documents_are_told_apart_by_their_ends_too() -> None:
    model = make("transformer").eval()
    ids = torch.tensor([5, 6, 7, 8])
    with Encodings().used_by(model), torch.inference_mode():
        together = model.encode(ids, BatchLayout.from_lengths([4]))
        apart = model.encode(ids, BatchLayout.from_lengths([2, 2]))
    assert not torch.allclose(together, apart)


def test_keys_and_values_are_projected_once_for_each_encoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    compute = MultiHeadAttention.project_memory

    def project(self: MultiHeadAttention, memory_MD: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(1)
        return compute(self, memory_MD)

    monkeypatch.setattr(MultiHeadAttention, "project_memory", project)
    model = make("transformer").eval()
    encodings = Encodings()
    other = Head(site="cross", layer=1, index=0)
    layers = 2
    for removed, times in [([], layers), ([other], 0), ([ENCODER_HEAD], layers), ([other], 0)]:
        calls.clear()
        with ablated(model, removed), encodings.used_by(model):
            losses_and_summaries(model)
        assert len(calls) == times


def test_keys_and_values_are_those_of_the_encoding_in_hand() -> None:
    """A new tensor can have the address of one that was forgotten."""
    model = make("transformer").eval()
    block = model.decoder[0].cross_attention
    with Encodings(max_bytes=0).used_by(model), torch.inference_mode():
        for seed in range(50):
            memory_MD = torch.full((3, 16), float(seed), dtype=torch.float64)
            expected = MultiHeadAttention.project_memory(block, memory_MD)
            for found, value in zip(block.project_memory(memory_MD), expected, strict=True):
                assert torch.equal(found, value)
            del memory_MD


@pytest.mark.parametrize("output", OUTPUTS)
def test_threads_share_encodings(output: list[str]) -> None:
    """Whichever thread is first, all of them get the same."""
    model = make("transformer", *output).eval()
    expected = losses_and_summaries(model)
    encodings = Encodings(max_bytes=1000)

    def compute(_: int) -> tuple[Tensor, list[list[Hypothesis]]]:
        of_thread = deepcopy(model)
        with encodings.used_by(of_thread):
            return losses_and_summaries(of_thread)

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(compute, range(12)):
            assert_equal(found, expected)
