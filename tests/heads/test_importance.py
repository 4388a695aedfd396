import itertools

import numpy as np
import pytest
import torch

from headcount.heads.blocks import gated, open_gates
from headcount.heads.importance import example_losses, importance, normalize_by_layer
from headcount.model.ragged import BatchLayout
from headcount.training.module import shift_by_one
from tests.heads.examples import data_batch
from tests.model.builds import ARCHITECTURES, OUTPUTS, make

BUILDS = [
    *itertools.product(ARCHITECTURES, OUTPUTS),
    ("transformer", ["num_kv_heads=2", "positions=rotary"]),
    ("transformer", ["positions=alibi", "attention=query_key_norm"]),
    ("gpt", ["num_kv_heads=1"]),
    ("recurrent", ["cell=lstm"]),
]


@pytest.mark.parametrize(("architecture", "changes"), BUILDS)
def test_importance_equals_finite_differences(architecture: str, changes: list[str]) -> None:
    """The mean over examples of |(loss(1 + e) - loss(1 - e)) / 2 e|, for every gate, in fp64."""
    model = make(architecture, *changes).eval()
    batch = data_batch()
    found = importance(model, [batch])
    step = 1e-5
    for name, gates_H in open_gates(model).items():
        for head in range(len(gates_H)):
            losses = []
            for sign in (1, -1):
                moved_H = gates_H.clone()
                moved_H[head] += sign * step
                with torch.no_grad(), gated(model, {**open_gates(model), name: moved_H}):
                    losses.append(example_losses(model, batch))
            expected = ((losses[0] - losses[1]) / (2 * step)).abs().mean().item()
            assert found[name][head] == pytest.approx(expected, rel=1e-5, abs=1e-9)
            assert expected > 0


@pytest.mark.parametrize("output", OUTPUTS)
def test_example_losses_are_those_of_training(output: list[str]) -> None:
    """Their mean, weighted by tokens, is the training loss of the batch."""
    model = make("transformer", *output).eval()
    batch = data_batch()
    inputs_M, targets_M, layout = shift_by_one(batch.summary_ids, batch.summary_lengths)
    prediction = model(
        batch.document_ids, BatchLayout.from_lengths(batch.document_lengths), inputs_M, layout
    )
    losses = example_losses(model, batch)
    weighted = (losses * torch.tensor(layout.lengths)).sum() / sum(layout.lengths)
    torch.testing.assert_close(weighted, prediction.loss(targets_M))


def test_importance_does_not_depend_on_the_batches() -> None:
    model = make("transformer").eval()
    batch = data_batch()
    whole = importance(model, [batch])
    pieces = importance(model, batch.pieces(2))
    for name, values in whole.items():
        np.testing.assert_allclose(pieces[name], values, rtol=1e-10)


def test_normalized_importances_have_length_one_in_each_block() -> None:
    profile = {"encoder.0": np.array([3.0, 4.0]), "cross.0": np.array([0.0, 0.0])}
    normalized = normalize_by_layer(profile)
    assert normalized["encoder.0"].tolist() == [0.6, 0.8]
    assert normalized["cross.0"].tolist() == [0.0, 0.0]
