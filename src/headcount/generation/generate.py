"""Generate summaries by the strategy of a config.

Greedy search and sampling are here. Beam search and the choice by minimum Bayes risk have files of
their own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from headcount.config.sections.generation import GenerationConfig
from headcount.generation.beam_search import beam_search
from headcount.generation.consensus import PairwiseUtility, rank_by_expected_utility
from headcount.generation.constraints import Constraint, apply_constraints
from headcount.generation.ensemble import Ensemble
from headcount.generation.hypothesis import (
    Hypothesis,
    OpenDocuments,
    log_normalizer,
    sort_by_length,
)
from headcount.model.base import AnyState, NextTokenModel
from headcount.model.ragged import BatchLayout


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        seeds: one for the random numbers of each document, so that the samples of a document do
            not depend on the other documents of the batch.
        num_samples: number of summaries of each document.
        temperature: see ``filter_logits``.
        top_k: likewise.
        top_p: likewise.
    """

    seeds: Sequence[int]
    num_samples: int
    temperature: float
    top_k: int
    top_p: float


def generate(
    model: NextTokenModel[AnyState],
    document_ids_N: Tensor,
    layout: BatchLayout,
    config: GenerationConfig,
    *,
    start_id: int,
    end_id: int,
    constraints: Sequence[Constraint] = (),
    seeds: Sequence[int] = (),
    utility: PairwiseUtility | None = None,
) -> list[list[Hypothesis]]:
    """Generate summaries by the strategy of a config.

    Args:
        model: in evaluation mode; or an ``Ensemble``.
        document_ids_N: the documents' tokens, end to end.
        layout: where each document begins and ends.
        config: the ``generation`` section.
        start_id: token that every summary starts from.
        end_id: token that ends a summary.
        constraints: from ``build_constraints``.
        seeds: one for the random numbers of each document; for sampling and minimum Bayes risk.
        utility: the utility that minimum Bayes risk maximizes.

    Returns:
        For each document up to ``num_return_sequences`` summaries, the best first.
    """
    searches = _Searches(
        document_ids_N=document_ids_N,
        layout=layout,
        config=config,
        start_id=start_id,
        end_id=end_id,
        constraints=constraints,
    )

    if config.strategy == "beam":
        hypotheses = searches.beam(model, config.num_beams)
    elif config.strategy == "sample":
        hypotheses = searches.sample(
            model, seeds, num_samples=config.num_return_sequences, temperature=config.temperature
        )
    elif config.strategy == "mbr":
        assert utility is not None
        candidates = searches.candidates(model, seeds)
        hypotheses = [rank_by_expected_utility(of_one, utility) for of_one in candidates]
    else:
        hypotheses = searches.greedy(model)
    return [of_document[: config.num_return_sequences] for of_document in hypotheses]


@dataclass(frozen=True, kw_only=True)
class _Searches:
    """The searches of a config on the same documents; attributes as in ``generate``."""

    document_ids_N: Tensor
    layout: BatchLayout
    config: GenerationConfig
    start_id: int
    end_id: int
    constraints: Sequence[Constraint]

    def greedy(self, model: NextTokenModel[Any]) -> list[list[Hypothesis]]:
        """Choose the most probable token each time."""
        return self._token_by_token(model, sampling=None)

    def sample(
        self,
        model: NextTokenModel[Any],
        seeds: Sequence[int],
        *,
        num_samples: int,
        temperature: float,
    ) -> list[list[Hypothesis]]:
        """Sample, with ``top_k`` and ``top_p`` of the config."""
        sampling = Sampling(
            seeds=seeds,
            num_samples=num_samples,
            temperature=temperature,
            top_k=self.config.top_k,
            top_p=self.config.top_p,
        )
        return self._token_by_token(model, sampling)

    def beam(self, model: NextTokenModel[Any], num_beams: int) -> list[list[Hypothesis]]:
        """Search with so many beams. The other keys of beam search are those of the config, also
        for minimum Bayes risk."""
        config = replace(self.config, strategy="beam", num_beams=num_beams, num_return_sequences=1)
        return beam_search(
            model,
            self.document_ids_N,
            self.layout,
            config,
            start_id=self.start_id,
            end_id=self.end_id,
            constraints=self.constraints,
        )

    def candidates(
        self, model: NextTokenModel[Any], seeds: Sequence[int]
    ) -> list[list[Hypothesis]]:
        """Find the candidates of each document for minimum Bayes risk, by the model or by each
        model of an ensemble."""
        config = self.config
        models: Sequence[NextTokenModel[Any]] = [model]
        if isinstance(model, Ensemble) and config.mbr_candidates == "each":
            models = model.models

        candidates: list[list[Hypothesis]] = [[] for _ in self.layout.lengths]
        for number, each in enumerate(models):
            if config.mbr_num_beams:
                _extend_each(candidates, self.beam(each, config.mbr_num_beams))
            if config.mbr_num_samples:
                # Further models draw with numbers of their own, so that their samples differ more.
                samples = self.sample(
                    each,
                    [seed + number for seed in seeds],
                    num_samples=config.mbr_num_samples,
                    temperature=config.mbr_temperature,
                )
                _extend_each(candidates, samples)
        return candidates

    def _token_by_token(
        self, model: NextTokenModel[Any], sampling: Sampling | None
    ) -> list[list[Hypothesis]]:
        return generate_tokens(
            model,
            self.document_ids_N,
            self.layout,
            max_tokens=self.config.max_tokens,
            start_id=self.start_id,
            end_id=self.end_id,
            constraints=self.constraints,
            sampling=sampling,
        )


def _extend_each(candidates: list[list[Hypothesis]], found: list[list[Hypothesis]]) -> None:
    """Add what a search has found to the candidates of each document."""
    for of_document, more in zip(candidates, found, strict=True):
        of_document.extend(more)


@torch.inference_mode()
def generate_tokens(
    model: NextTokenModel[AnyState],
    document_ids_N: Tensor,
    layout: BatchLayout,
    *,
    max_tokens: int,
    start_id: int,
    end_id: int,
    constraints: Sequence[Constraint] = (),
    sampling: Sampling | None = None,
) -> list[list[Hypothesis]]:
    """Generate summaries token by token: the most probable token, or a sampled one.

    Args:
        model: in evaluation mode.
        document_ids_N: the documents' tokens, end to end.
        layout: where each document begins and ends.
        max_tokens: maximum number of tokens, with the end token.
        start_id: token that every summary starts from.
        end_id: token that ends a summary.
        constraints: on the next token.
        sampling: how tokens are drawn; None: greedy search, which finds one summary.

    Returns:
        For each document its summaries, the most probable first. Scores are log-probabilities.
    """
    width = 1 if sampling is None else sampling.num_samples
    document_ids_N, layout, unfinished = sort_by_length(document_ids_N, layout)
    state = model.start(document_ids_N, layout, capacity=max_tokens, width=width)

    documents = len(unfinished)
    device = document_ids_N.device
    summaries = Summaries.start(documents, width, start_id=start_id, device=device)
    if sampling is not None:
        seeds = [sampling.seeds[document] for document in unfinished]
        summaries.uniform_BWT = _draw_uniform(seeds, width, max_tokens).to(device)
    results: list[list[Hypothesis]] = [[] for _ in range(documents)]

    for time in range(1, max_tokens + 1):
        logits_BWV = model.step(summaries.token_BW, state)
        # Normalize before the constraints: probability that they block is not handed to other
        # tokens.
        log_normalizer_BW = log_normalizer(logits_BWV)
        apply_constraints(constraints, logits_BWV, summaries.generated_BWT)

        # Choose the next token.
        if sampling is None:
            token_BW = logits_BWV.argmax(-1)
        else:
            token_BW = _sample(logits_BWV, summaries.uniform_BWT[:, :, time - 1], sampling)
        logit_BW = logits_BWV.gather(-1, token_BW[..., None])[..., 0]
        summaries.append(token_BW, logit_BW.float() - log_normalizer_BW, end_id)

        # Documents whose summaries are all finished leave the batch; at the maximum length all do.
        done_B = summaries.finished_BW.all(1)
        if time == max_tokens:
            done_B = torch.ones_like(done_B)
        if done_B.any():
            for row in done_B.nonzero()[:, 0].tolist():
                results[unfinished[row]] = summaries.hypotheses(row, end_id)
            open_B = (~done_B).nonzero()[:, 0]
            if not len(open_B):
                break
            state.select(open_B)
            summaries.select(open_B)
            unfinished = [unfinished[row] for row in open_B.tolist()]
    return results


@dataclass
class Summaries(OpenDocuments):
    """The summaries of the documents that are still in the batch.

    Attributes:
        token_BW: last token of each summary.
        generated_BWT: its tokens so far; a finished one is padded with the end token.
        score_BW: its log-probability.
        finished_BW: whether it has ended.
        uniform_BWT: random numbers for its tokens; greedy search has none.
    """

    token_BW: Tensor
    generated_BWT: Tensor
    score_BW: Tensor
    finished_BW: Tensor
    uniform_BWT: Tensor

    @classmethod
    def start(
        cls, documents: int, width: int, *, start_id: int, device: torch.device
    ) -> "Summaries":
        """Return the summaries before the first step."""
        return cls(
            token_BW=torch.full((documents, width), start_id, device=device),
            generated_BWT=torch.empty(documents, width, 0, dtype=torch.long, device=device),
            score_BW=torch.zeros(documents, width, device=device),
            finished_BW=torch.zeros(documents, width, dtype=torch.bool, device=device),
            uniform_BWT=torch.empty(documents, width, 0, device=device),
        )

    def append(self, token_BW: Tensor, log_prob_BW: Tensor, end_id: int) -> None:
        """Append a token to each open summary. A finished one keeps its score."""
        self.token_BW = torch.where(self.finished_BW, end_id, token_BW)
        self.score_BW = self.score_BW + torch.where(self.finished_BW, 0.0, log_prob_BW)
        self.finished_BW = self.finished_BW | (self.token_BW == end_id)
        self.generated_BWT = torch.cat([self.generated_BWT, self.token_BW[..., None]], -1)

    def hypotheses(self, row: int, end_id: int) -> list[Hypothesis]:
        """Return the summaries of a document, the most probable first."""
        texts = self.generated_BWT[row].tolist()
        scores = self.score_BW[row].tolist()
        ranked = sorted(zip(texts, scores, strict=True), key=lambda pair: -pair[1])
        return [Hypothesis.from_tokens(tokens, score, end_id) for tokens, score in ranked]


def _draw_uniform(seeds: Sequence[int], width: int, max_tokens: int) -> Tensor:
    """Return uniform random numbers for each token of each document, [B, W, T].

    They are drawn on the CPU, so that a seed means the same on every device.
    """
    drawn = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        drawn.append(torch.rand(width, max_tokens, generator=generator))
    return torch.stack(drawn)


def _sample(logits_BWV: Tensor, uniform_BW: Tensor, sampling: Sampling) -> Tensor:
    """Draw a token for each hypothesis, [B, W].

    By inversion: the first token at which the cumulative probability exceeds a uniform number. It
    takes one random number for a token, where ``multinomial`` draws one for each word of the
    vocabulary. Rounding moves the probability of a token by less than 1e-6.
    """
    filtered_RV = filter_logits(
        logits_BWV.flatten(0, 1),
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
    )
    cumulative_RV = filtered_RV.softmax(-1).cumsum(-1)
    # The last cumulative probability is one but for rounding.
    threshold_R1 = uniform_BW.flatten()[:, None] * cumulative_RV[:, -1:]
    token_R1 = torch.searchsorted(cumulative_RV, threshold_R1, right=True)
    return token_R1.view(uniform_BW.shape)


def filter_logits(logits_RV: Tensor, *, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Return the logits that sampling draws from; those of excluded tokens are -inf.

    Args:
        logits_RV: of the next token.
        temperature: divisor of the logits; below 1 sharpens the distribution.
        top_k: keep the k most probable tokens (Fan et al. 2018, section 4.4); 0: all.
        top_p: keep the most probable tokens that together reach p (Holtzman et al. 2020, section
            3.1); 1: all.
    """
    logits_RV = logits_RV.float() / temperature
    if top_k:
        smallest_R1 = logits_RV.topk(min(top_k, logits_RV.shape[-1])).values[:, -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < smallest_R1, -math.inf)
    if top_p < 1.0:
        # A token is kept if those before it have not reached p; the most probable one always is.
        sorted_RV, order_RV = logits_RV.sort(descending=True)
        prob_RV = sorted_RV.softmax(-1)
        before_RV = prob_RV.cumsum(-1) - prob_RV
        excluded_in_order_RV = (before_RV >= top_p) & (before_RV > 0)

        # Back to the order of the vocabulary.
        excluded_RV = torch.zeros_like(excluded_in_order_RV)
        excluded_RV.scatter_(1, order_RV, excluded_in_order_RV)
        logits_RV = logits_RV.masked_fill(excluded_RV, -math.inf)
    return logits_RV
