"""Generate summaries token by token.

Greedy search and sampling. Beam search has a file of its own.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from headcount.config.schema import GenerationConfig
from headcount.generation.beam_search import beam_search
from headcount.generation.constraints import Constraint, apply_constraints
from headcount.generation.hypothesis import Hypothesis, log_normalizer, sort_by_length
from headcount.model.base import AnyState, SummaryModel
from headcount.model.ragged import BatchLayout


def generate(
    model: SummaryModel[AnyState],
    document_ids_N: Tensor,
    layout: BatchLayout,
    config: GenerationConfig,
    *,
    start_id: int,
    end_id: int,
    constraints: Sequence[Constraint] = (),
    generator: torch.Generator | None = None,
) -> list[list[Hypothesis]]:
    """Generate summaries by the strategy of a config.

    Args:
        model: in evaluation mode.
        document_ids_N: the documents' tokens, end to end.
        layout: where each document begins and ends.
        config: the ``generation`` section.
        start_id: token that every summary starts from.
        end_id: token that ends a summary.
        constraints: from ``build_constraints``.
        generator: of random numbers, for sampling.

    Returns:
        For each document up to ``num_return_sequences`` summaries, the best first.
    """
    if config.strategy == "beam":
        hypotheses = beam_search(
            model,
            document_ids_N,
            layout,
            config,
            start_id=start_id,
            end_id=end_id,
            constraints=constraints,
        )
    else:
        hypotheses = generate_tokens(
            model,
            document_ids_N,
            layout,
            config,
            start_id=start_id,
            end_id=end_id,
            constraints=constraints,
            generator=generator if config.strategy == "sample" else None,
        )
    return [of_document[: config.num_return_sequences] for of_document in hypotheses]


@torch.inference_mode()
def generate_tokens(
    model: SummaryModel[AnyState],
    document_ids_N: Tensor,
    layout: BatchLayout,
    config: GenerationConfig,
    *,
    start_id: int,
    end_id: int,
    constraints: Sequence[Constraint] = (),
    generator: torch.Generator | None = None,
) -> list[list[Hypothesis]]:
    """Generate summaries token by token: the most probable token, or with a generator a sampled
    one.

    Args:
        model: in evaluation mode.
        document_ids_N: the documents' tokens, end to end.
        layout: where each document begins and ends.
        config: maximum length; for sampling the number of summaries and how tokens are drawn.
        start_id: token that every summary starts from.
        end_id: token that ends a summary.
        constraints: on the next token.
        generator: of random numbers; None: greedy search.

    Returns:
        For each document its summaries, the most probable first. Scores are log-probabilities.
    """
    width = 1 if generator is None else config.num_return_sequences
    document_ids_N, layout, unfinished = sort_by_length(document_ids_N, layout)
    device = document_ids_N.device
    documents = len(unfinished)
    state = model.start(document_ids_N, layout, capacity=config.max_tokens, width=width)

    results: list[list[Hypothesis]] = [[] for _ in range(documents)]
    token_BW = torch.full((documents, width), start_id, device=device)
    generated_BWT = token_BW.new_empty(documents, width, 0)
    score_BW = torch.zeros(documents, width, device=device)
    finished_BW = torch.zeros(documents, width, dtype=torch.bool, device=device)

    for time in range(1, config.max_tokens + 1):
        logits_BWV = model.step(token_BW, state)
        # Normalize before the constraints: probability that they block is not handed to other
        # tokens.
        log_normalizer_BW = log_normalizer(logits_BWV)
        apply_constraints(constraints, logits_BWV, generated_BWT)

        # Choose the next token. A finished hypothesis is padded with the end token.
        if generator is None:
            token_BW = logits_BWV.argmax(-1)
        else:
            token_BW = _sample(logits_BWV.flatten(0, 1), config, generator).view(token_BW.shape)
        token_BW = torch.where(finished_BW, end_id, token_BW)

        # Only open hypotheses add to their score.
        log_prob_BW = (
            logits_BWV.gather(-1, token_BW[..., None])[..., 0].float() - log_normalizer_BW
        )
        score_BW = score_BW + torch.where(finished_BW, 0.0, log_prob_BW)
        finished_BW = finished_BW | (token_BW == end_id)
        generated_BWT = torch.cat([generated_BWT, token_BW[..., None]], -1)

        # Documents whose summaries are all finished leave the batch; at the maximum length all do.
        done_B = finished_BW.all(1)
        if time == config.max_tokens:
            done_B = torch.ones_like(done_B)
        if not done_B.any():
            continue
        for row in done_B.nonzero()[:, 0].tolist():
            results[unfinished[row]] = _rank(
                generated_BWT[row].tolist(), score_BW[row].tolist(), end_id
            )
        open_B = (~done_B).nonzero()[:, 0]
        if not len(open_B):
            break
        state.select(open_B)
        unfinished = [unfinished[row] for row in open_B.tolist()]
        token_BW = token_BW[open_B]
        generated_BWT = generated_BWT[open_B]
        score_BW = score_BW[open_B]
        finished_BW = finished_BW[open_B]
    return results


def _rank(texts: list[list[int]], scores: list[float], end_id: int) -> list[Hypothesis]:
    ranked = sorted(zip(texts, scores, strict=True), key=lambda pair: -pair[1])
    return [Hypothesis.from_tokens(tokens, score, end_id) for tokens, score in ranked]


def _sample(logits_RV: Tensor, config: GenerationConfig, generator: torch.Generator) -> Tensor:
    """Draw a token for each row, [R]."""
    filtered_RV = filter_logits(
        logits_RV, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p
    )
    return filtered_RV.softmax(-1).multinomial(1, generator=generator)[:, 0]


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
        before_RV = sorted_RV.softmax(-1).cumsum(-1) - sorted_RV.softmax(-1)
        is_excluded_RV = (before_RV >= top_p) & (before_RV > 0)
        excluded_RV = torch.zeros_like(before_RV, dtype=torch.bool).scatter_(
            1, order_RV, is_excluded_RV
        )
        logits_RV = logits_RV.masked_fill(excluded_RV, -math.inf)
    return logits_RV
