"""Gradient importance of heads (Michel et al. 2019, section 4).

The importance of a head is the mean over examples of |d loss / d gate|, taken at a gate of one,
where the loss is an example's mean cross-entropy under teacher forcing. It costs one backward pass
per example, whatever the number of heads. It is a first-order approximation of removing one head
at a time: two heads that can replace each other both get a low importance.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from headcount.data.batches import Batch
from headcount.heads.blocks import Model, gated, open_gates
from headcount.model.ragged import BatchLayout
from headcount.training.module import shift_by_one

Profile = dict[str, NDArray[np.float64]]  # a value for each head: [H] by the block's name


def example_losses(model: Model, batch: Batch) -> torch.Tensor:
    """Return the mean cross-entropy of each example's summary under teacher forcing, [B]."""
    device = next(model.parameters()).device
    inputs_M, targets_M, layout = shift_by_one(batch.summary_ids.to(device), batch.summary_lengths)
    output = model(
        batch.document_ids.to(device),
        BatchLayout.from_lengths(batch.document_lengths, device),
        inputs_M,
        layout,
    )
    losses = output.token_losses(targets_M.long()).split(layout.lengths)
    return torch.stack([loss_T.mean() for loss_T in losses])


def importance(model: Model, batches: Iterable[Batch]) -> Profile:
    """Return the gradient importance of every head.

    Args:
        model: without dropout, that is in evaluation mode.
        batches: the examples; batches of one example and larger ones give the same result.

    Returns:
        For each block the mean over examples of |d loss / d gate|, [H].
    """
    sums = {name: np.zeros(len(gates_H)) for name, gates_H in open_gates(model).items()}
    examples = 0
    for batch in batches:
        # The absolute value is taken of each example's gradient, before the mean, so each example
        # needs its own backward pass.
        for example in batch.pieces(1):
            gates = {name: g.requires_grad_() for name, g in open_gates(model).items()}
            with torch.enable_grad(), gated(model, gates):
                loss = example_losses(model, example).sum()
                gradients = torch.autograd.grad(loss, list(gates.values()))
            for name, gradient_H in zip(gates, gradients, strict=True):
                sums[name] += gradient_H.abs().double().cpu().numpy()
            examples += 1
    return {name: total / max(1, examples) for name, total in sums.items()}


def normalize_by_layer(profile: Profile) -> Profile:
    """Return importances divided by the L2 norm of their block's, as Michel et al. do before they
    rank heads of different layers (after Molchanov et al. 2017)."""
    normalized = {}
    for name, values in profile.items():
        norm = np.sqrt((values**2).sum())
        normalized[name] = values / norm if norm > 0 else values
    return normalized
