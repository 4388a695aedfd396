import pytest
import torch

from headcount.model.dropout import Dropout, dropout, dropout_mask


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_dropped_and_the_mean_kept(share: float) -> None:
    torch.manual_seed(0)
    dropped = dropout(torch.ones(1000, 1001), share)
    assert (dropped == 0).double().mean().item() == pytest.approx(share, abs=2e-3)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / (1 - share)])
    assert dropped.mean().item() == pytest.approx(1, abs=1e-2)


def test_decisions_are_independent() -> None:
    """Four come from one draw of bits; neighbours and layout must not know of each other."""
    torch.manual_seed(0)
    kept = dropout_mask(torch.Size([1000, 1000]), 0.3).double() - 0.7
    for shift in (1, 2, 3, 4, 1000):
        flat = kept.flatten()
        assert abs((flat[:-shift] * flat[shift:]).mean().item()) < 1e-3


def test_gradient_goes_where_values_went() -> None:
    x = torch.randn(50, 7, requires_grad=True)
    dropped = dropout(x, 0.4)
    (gradient,) = torch.autograd.grad(dropped.sum(), x)
    assert torch.equal(gradient == 0, dropped == 0)


def test_seeded_and_off_in_evaluation() -> None:
    layer, x = Dropout(0.5), torch.ones(100)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first) and not torch.equal(layer(x), first)
    layer.eval()
    assert torch.equal(layer(x), x)
