"""The linear layer, by the faster of the two libraries that torch has for it on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b, [..., out] of [..., in].

    In fp32 torch takes MKL, which is slow where few rows meet a large matrix, as in each step of decoding; oneDNN, to
    which torch's compiler sends the same product, is not. It has no backward.
    """
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.numel() > 0
    if ONEDNN and plain and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """A linear layer that computes by ``linear``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b."""
        return linear(x, self.weight, self.bias)
