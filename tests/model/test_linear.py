"""The linear layer, whichever library computes it."""

import pytest
import torch
from torch.nn import functional as F

from headcount.model import linear as module
from headcount.model.linear import Linear, linear


@pytest.mark.parametrize("shape", [(0, 24), (1, 24), (16, 1, 24), (5, 4, 24), (300, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_is_torchs(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, weight, bias = torch.randn(*shape).to(dtype), torch.randn(40, 24).to(dtype), torch.randn(40).to(dtype)
    with torch.inference_mode():
        for part in (slice(None), slice(8, 40)):
            for added in (bias[part], None):
                torch.testing.assert_close(linear(x, weight[part], added), F.linear(x, weight[part], added))
        torch.testing.assert_close(linear(x.transpose(0, -2), weight), F.linear(x.transpose(0, -2), weight))


@pytest.mark.skipif(not module.ONEDNN, reason="this torch has no oneDNN")
def test_onednn_is_taken_in_decoding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, taken = Linear(3, 2), torch.randn(4, 3), []
    monkeypatch.setattr(F, "linear", lambda *_: taken.append("mkl") or torch.zeros(4, 2, requires_grad=True))
    layer(x).sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias)
        with torch.autocast("cpu", torch.bfloat16):
            layer(x)
        layer.double()(x.double())
    assert len(taken) == 3
