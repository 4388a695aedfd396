"""The section ``heads`` of a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headcount.config.section import Section, key

HeadGates = Literal["none", "l0", "top_k"]


@dataclass(frozen=True, kw_only=True)
class HeadsConfig(Section):
    """Gates on heads that are learned in training, and the analysis of a trained model's heads by
    ``headcount heads``."""

    gates: HeadGates = key(
        "none",
        "gates on heads that are learned in training: l0 (Louizos et al. 2018) closes what "
        "heads.l0_penalty does not pay for, top_k (Li et al. 2021) keeps heads.keep of them open",
    )
    keep: int | None = key(
        None, "top_k: number of heads of the whole model that stay open", at_least=1
    )
    l0_penalty: float = key(
        0.01, "l0: weight of the expected number of open heads in the loss", at_least=0
    )
    gates_learning_rate: float = key(
        0.05, "peak learning rate of the gates' scores, with the schedule of all", at_least=0
    )
    split: Literal["validation", "test"] = key(
        "validation", "split that the heads are analysed on; orders are chosen on validation"
    )
    documents: int = key(100, "number of documents of that split", at_least=2)
    points: int = key(6, "points of a pruning curve, all heads and no heads included", at_least=2)
    random_orders: int = key(
        5, "random orders that the pruning curves are compared with", at_least=1
    )
    margin: float = key(
        0.5, "loss of ROUGE x 100 below which a smaller model counts as equal", at_least=0
    )
