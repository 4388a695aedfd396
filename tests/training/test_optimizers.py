"""Muon: which matrices it trains, what a step does to them, and what it does not go with."""

import math
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from headcount.commands import train as run
from headcount.config.load import load
from headcount.errors import ConfigError
from headcount.training import optimizers
from headcount.training.data_module import SummarizationDataModule
from headcount.training.module import Summarizer
from headcount.training.optimizers import (
    Muon,
    check_optimizer,
    hidden_matrices,
    make_optimizer,
    orthogonalize,
)
from tests.model.builds import ARCHITECTURES, OUTPUTS, make

NONE = torch.nn.Parameter(torch.zeros(1))  # AdamW is not made of nothing


def muon(parts: dict[torch.Tensor, list[int]], **changes: float) -> Muon:
    settings = {"learning_rate": 0.01, "momentum": 0.95, "weight_decay": 0.1, **changes}
    return Muon(parts, **settings, others=torch.optim.AdamW([NONE]))


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """Let updates be orthogonalized in one precision, whatever this machine has."""
    monkeypatch.setattr(optimizers, "_fast_dtype", lambda device: request.param)
    return request.param


def names(model: nn.Module, parts: dict[torch.Tensor, list[int]]) -> dict[str, list[int]]:
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return {known[id(parameter)]: sizes for parameter, sizes in parts.items()}


def test_hidden_matrices_of_a_transformer() -> None:
    """Queries, keys and values are parts, also where several heads share keys and values."""
    model = make("transformer", "num_kv_heads=1", "positions=learned", "decoder_layers=1")
    parts = names(model, hidden_matrices(model))
    assert parts["encoder.0.attention.input_projection.weight"] == [16, 4, 4]
    assert parts["decoder.0.cross_attention.output_projection.weight"] == [16]
    assert parts["decoder.0.feedforward.up_projection.weight"] == [32]
    others = {name for name, p in model.named_parameters() if p.ndim == 2} - parts.keys()
    assert others == {"summary_embedding.tokens.weight", "summary_embedding.position_table"}


@pytest.mark.parametrize(("cell", "gates"), [("gru", 3), ("lstm", 4)])
def test_hidden_matrices_of_a_recurrent_model(cell: str, gates: int) -> None:
    """Each gate is a part, and each layer's first state."""
    model = make("recurrent", f"cell={cell}", "tie_embeddings=none")
    parts = names(model, hidden_matrices(model))
    assert parts["encoder.weight_ih_l0_reverse"] == [8] * gates
    assert parts["decoder.0.weight_hh"] == [16] * gates
    assert parts["initial_state.weight"] == [16, 16]
    assert parts["attention.query_projection.weight"] == [16]
    assert parts["readout.weight"] == [16]
    others = {name for name, p in model.named_parameters() if p.ndim == 2} - parts.keys()
    assert others == {
        "summary_embedding.tokens.weight",
        "document_embedding.tokens.weight",
        "output.weight",
        "attention.score_HK",
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_copy_gate_is_no_hidden_matrix(architecture: str) -> None:
    model = make(architecture, "copying=true")
    assert model.copy_gate.weight not in hidden_matrices(model)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_parameter_has_one_optimizer(output: list[str], architecture: str) -> None:
    model = make(architecture, *output)
    config = load([], ["optimizer.name=muon", "optimizer.weight_decay=0.3"]).optimizer
    made = make_optimizer(model, config, fused=True)
    groups = made.param_groups
    trained = [parameter for group in groups for parameter in group["params"]]
    assert len(trained) == len({id(p) for p in trained}) == len(list(model.parameters()))
    assert [group["weight_decay"] for group in groups] == [0.3, 0.3, 0.0]
    assert {p.ndim for p in groups[1]["params"]} == {2}
    assert {p.ndim for p in groups[2]["params"]} == {1}
    before = [p.detach().clone() for p in trained]
    for parameter in trained:
        parameter.grad = torch.randn_like(parameter)
    made.step()
    assert all(not torch.equal(p, old) for p, old in zip(trained, before, strict=True))


def test_singular_values_of_an_update(dtype: torch.dtype) -> None:
    """Those of every part are near one, whatever its shape and size; those of stacked parts are
    not."""
    torch.manual_seed(0)
    shapes = [(64, 64), (64, 256), (256, 64), (192, 64), (16, 64)]
    matrices = [with_singular_values(shape, 7, 7 / 100) for shape in shapes]
    for matrix, direction in zip(matrices, orthogonalize(matrices, dtype), strict=True):
        values = torch.linalg.svdvals(direction.float())
        assert values.min() > 0.7 and values.max() < 1.3
        # It is not any orthogonal matrix: that of the matrix itself, by its singular vectors.
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        assert (direction.float() - left @ right).norm() < 0.15 * (left @ right).norm()
    assert not orthogonalize([torch.zeros(4, 4)], dtype)[0].any()

    parts = [with_singular_values((64, 64), size, size / 30) for size in (1, 9, 3)]
    stacked = nn.Parameter(torch.randn(192, 64))
    stacked.grad = torch.cat(parts)
    before = stacked.detach().clone()
    muon({stacked: [64, 64, 64]}, weight_decay=0.0).step()
    update = (before - stacked.detach()) / (0.01 * 0.2 * 8)
    for part in update.split(64):
        values = torch.linalg.svdvals(part)
        assert values.min() > 0.7 and values.max() < 1.3
    assert torch.linalg.svdvals(update).max() > 1.4


@pytest.mark.parametrize("shape", [(192, 192), (128, 512)])
def test_singular_values_of_an_ill_conditioned_update(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    """Shapes of committed configs, and a condition of 1,000: values above a thousandth of the norm
    come near one, smaller ones stay smaller, and none grows beyond."""
    torch.manual_seed(0)
    matrix = with_singular_values(shape, 7, 7 / 1000, by_ratio=True)
    left, before, right = torch.linalg.svd(matrix, full_matrices=False)
    is_large = before > 0.001 * matrix.norm()
    assert is_large.any() and not is_large.all()

    [direction] = orthogonalize([matrix], dtype)
    assert torch.linalg.svdvals(direction.float()).max() < 1.3
    # How much is left of each singular vector.
    after = (left.mT @ direction.float() @ right.mT).diagonal()
    assert after[is_large].min() > 0.7 and after[is_large].max() < 1.3


def test_precision_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU orthogonalizes in bf16 where it has instructions for it, a GPU always."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert optimizers._fast_dtype(torch.device("cpu")) == torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert optimizers._fast_dtype(torch.device("cpu")) == torch.float32
    assert optimizers._fast_dtype(torch.device("cuda")) == torch.bfloat16


def with_singular_values(
    shape: tuple[int, int], largest: float, smallest: float, *, by_ratio: bool = False
) -> torch.Tensor:
    """Return a random matrix whose singular values have equal differences, or equal ratios."""
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    if by_ratio:
        values = torch.logspace(math.log10(largest), math.log10(smallest), min(shape))
    else:
        values = torch.linspace(largest, smallest, min(shape))
    return left * values @ right


@pytest.mark.parametrize("shape", [(48, 48), (32, 96), (96, 32)])
def test_parity_with_torch(
    shape: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One matrix, several steps, weight decay included; torch iterates in bf16, and with the
    coefficients of Jordan et al. 2024."""
    monkeypatch.setattr(optimizers, "COEFFICIENTS", [(3.4445, -4.7750, 2.0315)] * 5)
    monkeypatch.setattr(optimizers, "SAFETY", 1.0)
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = muon({ours: [shape[0]]})
    torchs = torch.optim.Muon(
        [theirs], lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        mine.step()
        torchs.step()
        moved = (theirs - start).norm()
        assert (ours - theirs).norm() < 0.02 * moved


def test_weight_decay_is_decoupled(dtype: torch.dtype) -> None:
    """Without a gradient's direction a matrix shrinks by learning rate times decay."""
    matrix = nn.Parameter(torch.randn(8, 8))
    before = matrix.detach().clone()
    matrix.grad = torch.zeros(8, 8)
    unused = nn.Parameter(torch.randn(8, 8))
    kept = unused.detach().clone()
    muon({matrix: [8], unused: [8]}, learning_rate=0.5, weight_decay=0.2).step()
    torch.testing.assert_close(matrix.detach(), before * 0.9)
    assert torch.equal(unused, kept)  # it has no gradient


def test_a_checkpoint_brings_back_momentum_and_moments(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = load([], ["optimizer.name=muon"]).optimizer
    gradients = [[torch.randn_like(p) for p in make("transformer").parameters()] for _ in range(4)]
    models = [make("transformer").float() for _ in range(2)]

    def train(model: Any, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            for parameter, gradient in zip(model.parameters(), gradients[step], strict=True):
                parameter.grad = gradient.float()
            optimizer.step()

    whole = make_optimizer(models[0], config, fused=True)
    train(models[0], whole, range(2))
    models[1].load_state_dict(models[0].state_dict())
    resumed = make_optimizer(models[1], config, fused=True)
    resumed.load_state_dict(deepcopy(whole.state_dict()))
    for model, optimizer in zip(models, (whole, resumed), strict=True):
        train(model, optimizer, range(2, 4))
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_learning_rates_of_a_run(small) -> None:
    """Both follow the schedule, each from its own peak."""
    config = small("optimizer.name=muon", "optimizer.muon_learning_rate=0.006")
    data = SummarizationDataModule(config)
    data.setup()
    quiet: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_steps=3, limit_val_batches=0, accelerator="cpu", **quiet)
    trainer.fit(Summarizer(config, data.tokenizer), data)
    warm_up = 4 / 201  # after three of 200 steps
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == pytest.approx([0.006 * warm_up, 0.001 * warm_up, 0.001 * warm_up])
    assert load([], ["optimizer.learning_rate=0.004"]).optimizer.muon_learning_rate == 0.004


def test_sharded_weights_are_rejected(small, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded: Any = SimpleNamespace(strategy="fsdp")
    message = "^optimizer.name=muon does not go with weights that a strategy shards; legal: "
    with pytest.raises(ConfigError, match=message):
        check_optimizer(small("optimizer.name=muon"), sharded)
    check_optimizer(small(), sharded)
    monkeypatch.setattr(optimizers, "SingleDeviceStrategy", int)
    with pytest.raises(ConfigError, match=message):
        run.train(small("optimizer.name=muon"))
