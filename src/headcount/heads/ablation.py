"""Switching heads off in a trained model.

The three kinds of ablation differ in what replaces the output of the head:

- ``zero``: zeros. The head's columns of the output projection get no input.
- ``mean``: the head's mean output over the sample. The constant that the head adds to every token
  remains, and only what depends on the token is lost.
- ``resample``: the head's output at a random token of the sample, so that the layers above get
  values from the distribution that they were trained on (Chan et al. 2022).

With every kind, an ablated head of the last layer is also left out of the attention to the
document that is averaged over the heads.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from headcount.data.batches import Batch
from headcount.heads.blocks import Head, Model, gated, gates_without
from headcount.heads.importance import example_losses
from headcount.model.attention_blocks import attention_blocks

Ablation = Literal["zero", "mean", "resample"]
ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)
BANK_TOKENS = 4096  # tokens of each block whose outputs are stored for resampling


@dataclass(frozen=True, kw_only=True)
class HeadOutputs:
    """Outputs of all heads on a sample of documents.

    Attributes:
        mean_HK: by the block's name, the mean output of each head.
        bank_RHK: by the block's name, the outputs at up to ``BANK_TOKENS`` random tokens.
    """

    mean_HK: dict[str, Tensor]
    bank_RHK: dict[str, Tensor]


@torch.inference_mode()
def record_outputs(model: Model, batches: Iterable[Batch], *, seed: int = 0) -> HeadOutputs:
    """Run a model on a sample under teacher forcing and record the outputs of its heads.

    Args:
        model: in evaluation mode.
        batches: the sample.
        seed: chooses the tokens of the bank.
    """
    outputs: dict[str, list[Tensor]] = {name: [] for name in attention_blocks(model)}

    def recorder(name: str) -> Callable[[Tensor], Tensor]:
        def record(attended: Tensor) -> Tensor:
            # To [N, H, K]; additive attention has a batch and a width instead of N.
            outputs[name].append(attended.flatten(0, -3))
            return attended

        return record

    with _edited(model, {name: recorder(name) for name in outputs}):
        for batch in batches:
            example_losses(model, batch)

    # Average in float64: a half-precision sum over many tokens would lose digits. Draw on the CPU,
    # so that every device gets the same tokens.
    generator = torch.Generator().manual_seed(seed)
    mean_HK = {}
    bank_RHK = {}
    for name, parts in outputs.items():
        every_NHK = torch.cat(parts)
        mean_HK[name] = every_NHK.double().mean(0).to(every_NHK.dtype)
        drawn = torch.randperm(len(every_NHK), generator=generator)[:BANK_TOKENS]
        bank_RHK[name] = every_NHK[drawn.to(every_NHK.device)]
    return HeadOutputs(mean_HK=mean_HK, bank_RHK=bank_RHK)


@contextmanager
def ablated(
    model: Model,
    heads: Iterable[Head],
    kind: Ablation = "zero",
    *,
    outputs: HeadOutputs | None = None,
    seed: int = 0,
) -> Iterator[None]:
    """Switch heads off within a ``with`` statement.

    Args:
        model: in evaluation mode.
        heads: those to switch off.
        kind: what replaces their outputs.
        outputs: from ``record_outputs``; not needed for ``zero``.
        seed: of resampling.

    Raises:
        ValueError: outputs are needed and not given.
    """
    removed = set(heads)
    if kind != "zero" and outputs is None:
        raise ValueError(f"kind={kind} needs the outputs of record_outputs")

    # A block applies ``edit_heads`` after its gates, so that the replacement is not multiplied by
    # zero.
    edits = {}
    if outputs is not None and kind != "zero":
        for name in attention_blocks(model):
            indices = sorted(head.index for head in removed if head.block == name)
            if indices and kind == "mean":
                edits[name] = _replace_by_mean(indices, outputs.mean_HK[name])
            elif indices:
                edits[name] = _replace_by_samples(indices, outputs.bank_RHK[name], seed)

    # The gates are closed whatever the kind: the average over heads reads them, not the outputs.
    gates = gates_without(model, removed)
    closed = {name: gates_H for name, gates_H in gates.items() if not bool(gates_H.all())}
    with gated(model, closed), _edited(model, edits):
        yield


def _replace_by_mean(indices: list[int], mean_HK: Tensor) -> Callable[[Tensor], Tensor]:
    def edit(attended: Tensor) -> Tensor:
        edited = attended.clone()
        edited[..., indices, :] = mean_HK[indices].to(attended.dtype)
        return edited

    return edit


def _replace_by_samples(
    indices: list[int], bank_RHK: Tensor, seed: int
) -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def edit(attended: Tensor) -> Tensor:
        # Each token gets the outputs of one random token, the same one for all removed heads.
        tokens = attended.shape[:-2]
        drawn = torch.randint(len(bank_RHK), (tokens.numel(),), generator=generator)
        samples = bank_RHK[drawn.to(bank_RHK.device)].view(*tokens, *bank_RHK.shape[1:])

        edited = attended.clone()
        edited[..., indices, :] = samples[..., indices, :].to(attended.dtype)
        return edited

    return edit


@contextmanager
def _edited(model: Model, edits: dict[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Set ``edit_heads`` of the named blocks within a ``with`` statement."""
    blocks = attention_blocks(model)
    with ExitStack() as stack:
        for name, edit in edits.items():
            stack.callback(setattr, blocks[name], "edit_heads", blocks[name].edit_heads)
            blocks[name].edit_heads = edit
        yield
