"""The optimizers: AdamW for everything, or Muon for the hidden matrices and AdamW for the rest.

``hidden_matrices`` is the one place that says which parameters Muon trains.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from headcount.config.schema import Config
from headcount.config.sections.optimizer import OptimizerConfig
from headcount.errors import ConfigError
from headcount.model.attention import MultiHeadAttention
from headcount.model.base import SummaryModel
from headcount.model.recurrent import Recurrent
from headcount.training.bf16 import multiplies_in_bf16

# Of each Newton-Schulz iteration: Polar Express (Amsel et al. 2025), the best polynomials for
# singular values from a thousandth of the norm. In bf16 rounding can lift the largest one above 1,
# so their argument is divided by a safety factor, as the paper advises.
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
SAFETY = 1.01
COEFFICIENTS = [(a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in POLAR_EXPRESS]
EPSILON = 1e-7


def check_optimizer(config: Config, trainer: pl.Trainer) -> None:
    """Check that the optimizer goes with how the trainer places the weights.

    Raises:
        ConfigError: Muon, which needs whole matrices, on weights that a strategy shards.
    """
    if config.optimizer.name == "muon" and not has_whole_weights(trainer):
        raise ConfigError(
            "optimizer.name=muon does not go with weights that a strategy shards; legal: "
            "trainer.strategy=ddp, or adamw"
        )


def has_whole_weights(trainer: pl.Trainer) -> bool:
    """Return whether each rank has all weights; False if a strategy shards them."""
    return isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy)


def make_optimizer(
    model: SummaryModel[Any],
    config: OptimizerConfig,
    *,
    fused: bool,
    gates: nn.Module | None = None,
    gates_learning_rate: float = 0.0,
) -> Optimizer:
    """Return the optimizer of a model. Vectors have no weight decay.

    Args:
        model: what is trained.
        config: the optimizer's section.
        fused: whether AdamW is one kernel.
        gates: learned gates on the model's heads, which AdamW trains without weight decay.
        gates_learning_rate: peak learning rate of the gates.
    """
    # What Muon does not train is AdamW's: matrices with weight decay, vectors without.
    parts = hidden_matrices(model) if config.name == "muon" else {}
    others = [parameter for parameter in model.parameters() if parameter not in parts]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    if gates is not None:
        scores = list(gates.parameters())
        groups.append({"params": scores, "weight_decay": 0.0, "lr": gates_learning_rate})

    betas = (config.beta1, config.beta2)
    adamw = AdamW(groups, lr=config.learning_rate, betas=betas, fused=fused)
    if config.name == "adamw":
        return adamw
    return Muon(
        parts,
        learning_rate=config.muon_learning_rate,
        momentum=config.muon_momentum,
        weight_decay=config.weight_decay,
        others=adamw,
    )


def hidden_matrices(model: SummaryModel[Any]) -> dict[Tensor, list[int]]:
    """Return the parameters that Muon trains: the weights of linear and recurrent layers.

    Embeddings, the output layer, the copy gate, biases and norms are left to AdamW, as Jordan et
    al. 2024 advise: a row of an embedding is a vector of its own.

    Returns:
        For each matrix the numbers of rows of its parts. A matrix that stacks several projections
        has one part for each, because each is a map of its own: queries, keys and values of
        attention, the gates of a recurrent cell, the first states of the recurrent decoder's
        layers.
    """
    parts: dict[Tensor, list[int]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name not in ("output", "copy_gate"):
            parts[module.weight] = [module.out_features]
        elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
            gates = 4 if isinstance(module, nn.LSTM | nn.LSTMCell) else 3
            for parameter in module.parameters():
                if parameter.ndim == 2:
                    parts[parameter] = [len(parameter) // gates] * gates

    # The stacked ones. A layer comes after the module that owns it, so this is a second pass.
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            parts[module.input_projection.weight] = module.sizes
        elif isinstance(module, Recurrent):
            layers = len(module.decoder)
            weight = module.initial_state.weight
            parts[weight] = [len(weight) // layers] * layers
    return parts


class Muon(Optimizer):
    """Momentum whose update is orthogonalized, for matrices (Jordan et al. 2024); AdamW for the
    rest.

    The update of a matrix is the orthogonal matrix nearest to its momentum, by a few Newton-Schulz
    iterations, so that all directions are learned at one speed. It is scaled to the size of
    AdamW's (Liu et al. 2025, section 2.2), so that learning rate and weight decay mean the same.

    ``torch.optim.Muon`` does the same for one matrix, with ``adjust_lr_fn="match_rms_adamw"``.
    Here matrices of a shape are orthogonalized together, which is faster, each part of a matrix
    is orthogonalized alone, and the coefficients of the iteration come closer to orthogonality.

    It is one optimizer, as Lightning and a checkpoint see it: its first group is Muon's, the
    others are AdamW's.

    Args:
        parts: the matrices, and for each the numbers of rows of its parts.
        learning_rate: of the matrices.
        momentum: share of the momentum that is kept at a step (Nesterov's).
        weight_decay: of the matrices; decoupled, as in AdamW.
        others: AdamW of all other parameters.
    """

    def __init__(
        self,
        parts: dict[Tensor, list[int]],
        *,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
        others: AdamW,
    ) -> None:
        matrices = {
            "params": list(parts),
            "part_sizes": list(parts.values()),
            "lr": learning_rate,
            "momentum": momentum,
            "weight_decay": weight_decay,
        }
        super().__init__([matrices, *others.param_groups], {})
        self._adamw = others

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step, after the closure has computed the gradients; return what it returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step_matrices(self.param_groups[0])

        # The groups and the state may have been replaced by those of a checkpoint.
        self._adamw.param_groups = self.param_groups[1:]
        self._adamw.state = self.state
        self._adamw.step()
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        # A matrix without a gradient took no part in the loss.
        matrices = []
        sizes = []
        for matrix, matrix_sizes in zip(group["params"], group["part_sizes"], strict=True):
            if matrix.grad is not None:
                matrices.append(matrix)
                sizes.append(matrix_sizes)
        if not matrices:
            return

        # Nesterov's momentum.
        gradients = [matrix.grad for matrix in matrices]
        momenta = [self._momentum(matrix) for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"])

        # Weight decay, then the orthogonal update of each part.
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        targets = _split(matrices, sizes)
        directions = orthogonalize(_split(updates, sizes), _fast_dtype(matrices[0].device))
        for target, direction in zip(targets, directions, strict=True):
            scale = 0.2 * math.sqrt(max(target.shape))
            target.add_(direction, alpha=-group["lr"] * scale)

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def _split(matrices: Iterable[Tensor], sizes: Iterable[list[int]]) -> list[Tensor]:
    """Return the parts of all matrices, as views."""
    parts: list[Tensor] = []
    for matrix, part_sizes in zip(matrices, sizes, strict=True):
        parts.extend(matrix.split(part_sizes))
    return parts


def _fast_dtype(device: torch.device) -> torch.dtype:
    """Return in which precision a device orthogonalizes fastest.

    A CPU with instructions for bf16 multiplies such matrices in a third to a half of the time of
    fp32; one without takes 1.5 to 4 times as long.
    """
    return torch.bfloat16 if multiplies_in_bf16(device) else torch.float32


def orthogonalize(matrices: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return the orthogonal matrix U V^T nearest to each matrix U S V^T, approximately.

    Newton-Schulz iterations X <- a X + (b A + c A A) X with A = X X^T (Jordan et al. 2024), on all
    matrices of a shape at once; a tall one is transposed. What is traded for speed: the singular
    values come to 0.87 to 1.13 and not to 1, and those that are less than a thousandth of the norm
    stay smaller.

    Args:
        matrices: of any shapes.
        dtype: precision of the iteration.
    """
    indices_by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, matrix in enumerate(matrices):
        indices_by_shape.setdefault(tuple(sorted(matrix.shape)), []).append(index)

    orthogonal = list(matrices)
    for indices in indices_by_shape.values():
        # The spectral norm is at most the Frobenius norm: the iteration starts within [0, 1].
        stacked = torch.stack([_transpose_if_tall(matrices[index]) for index in indices])
        norms = torch.linalg.matrix_norm(stacked.float(), keepdim=True)
        x = stacked.to(dtype) / (norms * SAFETY).clamp(min=EPSILON).to(dtype)
        for a, b, c in COEFFICIENTS:
            gram = x @ x.mT
            polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            x = torch.baddbmm(x, polynomial, x, beta=a)
        for index, matrix in zip(indices, x, strict=True):
            is_tall = matrices[index].shape != matrix.shape
            orthogonal[index] = matrix.mT if is_tall else matrix
    return orthogonal


def _transpose_if_tall(matrix: Tensor) -> Tensor:
    rows, columns = matrix.shape
    return matrix.mT if rows > columns else matrix
