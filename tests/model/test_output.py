import pytest
import torch

from headcount.model.output import average_heads
from tests.model.builds import ARCHITECTURES, OUTPUTS, SUMMARIES, batch, ids, make


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_are_those_of_the_probabilities(architecture: str, output: list[str]) -> None:
    prediction = make(architecture, *output).eval()(*batch())
    targets = ids(SUMMARIES, 4)
    log_probabilities = prediction.log_probabilities()
    torch.testing.assert_close(log_probabilities.exp().sum(-1), torch.ones(len(targets)).double())
    torch.testing.assert_close(prediction.next_logits().log_softmax(-1), log_probabilities)
    assert torch.equal(prediction.most_likely(), log_probabilities.argmax(-1))
    expected = -log_probabilities.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(prediction.token_losses(targets), expected)
    torch.testing.assert_close(prediction.loss(targets), expected.mean())


@pytest.mark.parametrize("output", OUTPUTS)
def test_smoothing_is_spread_over_the_vocabulary(output: list[str]) -> None:
    prediction = make("transformer", *output)(*batch())
    targets = ids(SUMMARIES, 4)
    uniform = -prediction.logits_MV.log_softmax(-1).mean().item()
    expected = 0.9 * prediction.loss(targets).item() + 0.1 * uniform
    smoothed = prediction.loss(targets, label_smoothing=0.1).item()
    assert smoothed == pytest.approx(expected, rel=1e-5)


def test_heads_are_averaged_by_their_gates() -> None:
    weights = torch.rand(3, 2, 5).softmax(-1)
    torch.testing.assert_close(average_heads(weights, None), weights.mean(0))
    first_closed = torch.tensor([0.0, 1.0, 1.0])
    torch.testing.assert_close(average_heads(weights, first_closed), weights[1:].mean(0))
    for closed in (torch.zeros(3), torch.tensor([0.0, -1.0, 0.0])):
        torch.testing.assert_close(average_heads(weights, closed), weights.mean(0))
