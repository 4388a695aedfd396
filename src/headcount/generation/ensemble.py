"""Ensembles: several models generate as one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headcount.model.base import State, SummaryModel
from headcount.model.output import upcast
from headcount.model.ragged import BatchLayout


@dataclass(kw_only=True)
class EnsembleState:
    """The states of all models, which have read the same documents.

    Attributes:
        states: one for each model, each of the class of its architecture.
        document_ids_BS: the documents' tokens.
        document_bias_B11S: added to scores, -inf in the padding.
        attention_BWS: attention of the last step to the documents, averaged over the models that
            return it.
    """

    states: list[State]
    document_ids_BS: Tensor
    document_bias_B11S: Tensor
    attention_BWS: Tensor | None = None

    @property
    def track_attention(self) -> bool:
        """Whether the models return their attention to the documents."""
        return all(state.track_attention for state in self.states)

    @track_attention.setter
    def track_attention(self, value: bool) -> None:
        for state in self.states:
            state.track_attention = value

    def select(self, documents: Tensor) -> None:
        """Keep only these documents, in ascending order."""
        for state in self.states:
            state.select(documents)
        self.document_ids_BS = self.states[0].document_ids_BS
        self.document_bias_B11S = self.states[0].document_bias_B11S

    def reorder(self, parents_BW: Tensor) -> None:
        """Let each hypothesis continue another one of its document."""
        for state in self.states:
            state.reorder(parents_BW)

    def average_attention(self) -> None:
        """Average the attention of the last step over the models that return it."""
        attentions = []
        for state in self.states:
            if state.attention_BWS is not None:
                attentions.append(state.attention_BWS)
        if attentions:
            self.attention_BWS = sum(attentions[1:], attentions[0]) / len(attentions)


class Ensemble:
    """Several models whose next-token distributions are averaged, in one search.

    The probability of a token is the mean of the models' probabilities. The models may differ in
    architecture and size. They share the vocabulary, and each keeps its own decoder cache.

    An ensemble of one model returns that model's logits unchanged. Time and memory are those of
    all models together.

    Args:
        models: one or more, of one vocabulary.
    """

    def __init__(self, models: Sequence[SummaryModel[Any]]) -> None:
        self.models = list(models)

    def start(
        self, document_ids_N: Tensor, layout: BatchLayout, *, capacity: int, width: int = 1
    ) -> EnsembleState:
        """Let every model read the documents; see ``SummaryModel.start``."""
        states: list[State] = []
        for model in self.models:
            states.append(model.start(document_ids_N, layout, capacity=capacity, width=width))
        return EnsembleState(
            states=states,
            document_ids_BS=states[0].document_ids_BS,
            document_bias_B11S=states[0].document_bias_B11S,
        )

    def step(self, token_ids_BW: Tensor, state: EnsembleState) -> Tensor:
        """Read one token of each hypothesis; return the logits [B, W, V] of the next one.

        The logits of several models are logarithms of their mean probabilities.
        """
        logits_of_models = []
        for model, own_state in zip(self.models, state.states, strict=True):
            logits_of_models.append(model.step(token_ids_BW, own_state))
        state.average_attention()
        if len(logits_of_models) == 1:
            return logits_of_models[0]
        return _log_mean_probability(logits_of_models)


def _log_mean_probability(logits_of_models: list[Tensor]) -> Tensor:
    """Return the logarithm of the mean of the models' probabilities, [B, W, V].

    The sum is computed on logarithms, so that small probabilities do not become zero.
    """
    total_BWV = upcast(logits_of_models[0]).log_softmax(-1)
    for logits_BWV in logits_of_models[1:]:
        total_BWV = torch.logaddexp(total_BWV, upcast(logits_BWV).log_softmax(-1))
    return total_BWV - math.log(len(logits_of_models))
