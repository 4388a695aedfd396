import pytest
import torch

from headcount.heads.ablation import ablated, record_outputs
from headcount.heads.blocks import Head
from headcount.heads.importance import example_losses
from headcount.model.attention import MultiHeadAttention
from headcount.model.attention_blocks import attention_blocks
from tests.heads.examples import data_batch
from tests.model.builds import ARCHITECTURES, MULTI_HEAD, make


@pytest.mark.parametrize("architecture", MULTI_HEAD)
def test_zero_equals_columns_of_the_output_projection_set_to_zero(architecture: str) -> None:
    model = make(architecture).eval()
    batch = data_batch()
    for name, block in attention_blocks(model).items():
        assert isinstance(block, MultiHeadAttention)
        site, layer = name.split(".")
        head = Head(site=site, layer=int(layer), index=1)
        with torch.no_grad(), ablated(model, [head]):
            gated_losses = example_losses(model, batch)
        kept = block.output_projection.weight.detach().clone()
        with torch.no_grad():
            block.output_projection.weight[:, 4:8] = 0.0
            zeroed = example_losses(model, batch)
            block.output_projection.weight.copy_(kept)
            torch.testing.assert_close(gated_losses, zeroed, rtol=0, atol=1e-12)
            assert not torch.allclose(example_losses(model, batch), zeroed, atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_mean_replaces_a_head_by_its_mean_output(architecture: str) -> None:
    model = make(architecture).eval()
    batch = data_batch()
    outputs = record_outputs(model, [batch])
    name, block = list(attention_blocks(model).items())[-1]
    site, layer = name.split(".")
    head = Head(site=site, layer=int(layer), index=2)
    seen: list[torch.Tensor] = []
    with torch.no_grad(), ablated(model, [head], "mean", outputs=outputs):
        edit = block.edit_heads
        assert edit is not None

        def spy(attended: torch.Tensor) -> torch.Tensor:
            edited = edit(attended)
            seen.append(edited)
            return edited

        block.edit_heads = spy
        example_losses(model, batch)
    mean_K = outputs.mean_HK[name][2]
    for edited in seen:
        torch.testing.assert_close(edited[..., 2, :], mean_K.expand_as(edited[..., 2, :]))
    assert block.edit_heads is None and block.head_gates is None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_recorded_means_are_those_of_the_outputs(architecture: str) -> None:
    """Each token of each document counts once, in every block."""
    model = make(architecture).eval()
    whole = record_outputs(model, [data_batch()])
    pieces = record_outputs(model, data_batch().pieces(1))
    for name, mean_HK in whole.mean_HK.items():
        torch.testing.assert_close(pieces.mean_HK[name], mean_HK)
        assert len(whole.bank_RHK[name]) == len(pieces.bank_RHK[name])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_resampling_is_repeatable_and_comes_from_the_bank(architecture: str) -> None:
    model = make(architecture).eval()
    batch = data_batch()
    outputs = record_outputs(model, [data_batch(seed=7)])
    name = list(attention_blocks(model))[-1]
    site, layer = name.split(".")
    head = Head(site=site, layer=int(layer), index=0)
    losses = []
    with torch.no_grad():
        for seed in (0, 0, 1):
            with ablated(model, [head], "resample", outputs=outputs, seed=seed):
                losses.append(example_losses(model, batch))
        assert torch.equal(losses[0], losses[1])
        assert not torch.equal(losses[0], losses[2])

        # A bank of one output gives that output, as the mean ablation by it does.
        one = outputs.bank_RHK[name][:1]
        outputs.bank_RHK[name] = one
        outputs.mean_HK[name] = one[0]
        with ablated(model, [head], "resample", outputs=outputs):
            resampled = example_losses(model, batch)
        with ablated(model, [head], "mean", outputs=outputs):
            torch.testing.assert_close(example_losses(model, batch), resampled)


def test_means_need_recorded_outputs() -> None:
    model = make("transformer")
    with (
        pytest.raises(ValueError, match="kind=mean needs the outputs"),
        ablated(model, [Head(site="decoder", layer=0, index=0)], "mean"),
    ):
        pass
