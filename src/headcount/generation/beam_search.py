"""Beam search, with length and coverage penalty (Wu et al. 2016), and diverse beam search
(Vijayakumar et al. 2018)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from headcount.config.sections.generation import GenerationConfig
from headcount.generation.constraints import Constraint, apply_constraints
from headcount.generation.hypothesis import (
    Hypothesis,
    OpenDocuments,
    log_normalizer,
    sort_by_length,
)
from headcount.model.base import AnyState, NextTokenModel
from headcount.model.output import EPSILON
from headcount.model.ragged import BatchLayout


@torch.inference_mode()
def beam_search(
    model: NextTokenModel[AnyState],
    document_ids_N: Tensor,
    layout: BatchLayout,
    config: GenerationConfig,
    *,
    start_id: int,
    end_id: int,
    constraints: Sequence[Constraint] = (),
) -> list[list[Hypothesis]]:
    """Generate summaries by beam search; with several groups, by diverse beam search.

    A document is finished when no open hypothesis can still beat the worst of the ``num_beams``
    best finished ones. Log-probabilities only fall, so the best score an open hypothesis can reach
    is its current one under the most favourable penalty. Stopping there never changes the result.

    Args:
        model: in evaluation mode; or an ``Ensemble``.
        document_ids_N: the documents' tokens, end to end.
        layout: where each document begins and ends.
        config: beams, groups and penalties.
        start_id: token that every summary starts from.
        end_id: token that ends a summary.
        constraints: on the next token.

    Returns:
        For each document up to ``num_beams`` summaries, the best first.
    """
    document_ids_N, layout, unfinished = sort_by_length(document_ids_N, layout)
    state = model.start(document_ids_N, layout, capacity=config.max_tokens, width=config.num_beams)
    state.track_attention = config.coverage_penalty > 0
    beams = Beams.start(layout, config, start_id=start_id, end_id=end_id)
    results: list[list[Hypothesis]] = [[] for _ in unfinished]

    for time in range(1, config.max_tokens + 1):
        logits_BWV = model.step(beams.token_BW, state)
        if state.track_attention and state.attention_BWS is not None:
            beams.coverage_BWS = beams.coverage_BWS + state.attention_BWS
        # Normalize before the constraints: probability that they block is not handed to other
        # tokens.
        log_normalizer_BW1 = log_normalizer(logits_BWV)[..., None]
        apply_constraints(constraints, logits_BWV, beams.generated_BWT)

        bonus_BW = _coverage_bonus(beams, state.document_bias_B11S, config)
        parents_BW = _extend(beams, logits_BWV, log_normalizer_BW1, bonus_BW, config, end_id)

        # Finished documents leave the batch.
        done_B = _cannot_improve(beams, config, time)
        if done_B.any():
            for row in done_B.nonzero()[:, 0].tolist():
                results[unfinished[row]] = beams.finished_hypotheses(row, end_id)
            open_B = (~done_B).nonzero()[:, 0]
            if not len(open_B):
                break
            state.select(open_B)
            beams.select(open_B)
            parents_BW = parents_BW[open_B]
            unfinished = [unfinished[row] for row in open_B.tolist()]
        state.reorder(parents_BW)
    return results


@dataclass
class Beams(OpenDocuments):
    """The hypotheses of the documents that are still in the batch.

    Attributes:
        token_BW: last token of each open hypothesis.
        score_BW: log-probability of each open hypothesis, minus diversity penalties.
        generated_BWT: tokens of each open hypothesis.
        coverage_BWS: attention of each open hypothesis to the document's tokens, summed over its
            tokens; zero without a coverage penalty.
        finished_score_BW: scores of the best finished hypotheses, -inf for none.
        finished_tokens_BWT: their tokens, padded with the end token.
    """

    token_BW: Tensor
    score_BW: Tensor
    generated_BWT: Tensor
    coverage_BWS: Tensor
    finished_score_BW: Tensor
    finished_tokens_BWT: Tensor

    @classmethod
    def start(
        cls, layout: BatchLayout, config: GenerationConfig, *, start_id: int, end_id: int
    ) -> "Beams":
        """Return the beams before the first step."""
        device = layout.offsets.device
        documents = len(layout.lengths)
        width = config.num_beams

        # All hypotheses start equal, so only the first one of each group has a finite score.
        group_size = width // config.num_beam_groups
        is_first_W = torch.arange(width, device=device) % group_size == 0
        return cls(
            token_BW=torch.full((documents, width), start_id, device=device),
            score_BW=torch.where(is_first_W, 0.0, -math.inf).repeat(documents, 1),
            generated_BWT=torch.empty(documents, width, 0, dtype=torch.long, device=device),
            coverage_BWS=torch.zeros(documents, width, layout.max_length, device=device),
            finished_score_BW=torch.full((documents, width), -math.inf, device=device),
            finished_tokens_BWT=torch.full(
                (documents, width, config.max_tokens), end_id, device=device
            ),
        )

    def advance(self, parents_BW: Tensor, token_BW: Tensor, score_BW: Tensor) -> None:
        """Let each open hypothesis continue a parent by a token."""
        parent_tokens_BWT = _gather(self.generated_BWT, parents_BW)
        self.generated_BWT = torch.cat([parent_tokens_BWT, token_BW[..., None]], 2)
        self.token_BW = token_BW
        self.score_BW = score_BW

    def finished_hypotheses(self, row: int, end_id: int) -> list[Hypothesis]:
        """Return the finished hypotheses of a document, the best first."""
        scores = self.finished_score_BW[row].tolist()
        texts = self.finished_tokens_BWT[row].tolist()
        ranked = sorted(zip(scores, texts, strict=True), key=lambda pair: -pair[0])
        return [
            Hypothesis.from_tokens(tokens, score, end_id)
            for score, tokens in ranked
            if score > -math.inf
        ]


def _extend(
    beams: Beams,
    logits_BWV: Tensor,
    log_normalizer_BW1: Tensor,
    bonus_BW: Tensor,
    config: GenerationConfig,
    end_id: int,
) -> Tensor:
    """Extend the hypotheses of each group by one token, and keep the best that finish.

    Returns:
        For each open hypothesis the one that it continues, [B, W].
    """
    group_size = config.num_beams // config.num_beam_groups
    time = beams.generated_BWT.shape[2] + 1
    parents = []
    tokens: list[Tensor] = []
    scores = []
    for begin in range(0, config.num_beams, group_size):
        group = slice(begin, begin + group_size)
        logits_BGV = logits_BWV[:, group]
        if tokens and config.diversity_penalty:
            logits_BGV = _penalize_repeated_choices(logits_BGV, tokens, config.diversity_penalty)

        score_BX, parent_in_group_BX, token_BX = _best_candidates(
            logits_BGV, log_normalizer_BW1[:, group], beams.score_BW[:, group, None]
        )
        parent_BX = begin + parent_in_group_BX
        finishes_BX = (token_BX == end_id) | (time == config.max_tokens)

        # Finished candidates compete with the finished hypotheses. Those beyond the group's size
        # do not count, because an open candidate there would have been dropped, too.
        final_BX = score_BX / length_divisor(time, config) + bonus_BW.gather(1, parent_BX)
        final_BX[:, group_size:] = -math.inf
        final_BX = final_BX.masked_fill(~finishes_BX, -math.inf)
        tokens_BXT = torch.cat([_gather(beams.generated_BWT, parent_BX), token_BX[..., None]], 2)
        _keep_best_finished(beams, group, final_BX, tokens_BXT, end_id)

        # The best open candidates continue.
        open_BX = score_BX.masked_fill(finishes_BX, -math.inf)
        open_score_BG, choice_BG = open_BX.topk(group_size)
        parents.append(parent_BX.gather(1, choice_BG))
        tokens.append(token_BX.gather(1, choice_BG))
        scores.append(open_score_BG)

    parents_BW = torch.cat(parents, 1)
    beams.advance(parents_BW, torch.cat(tokens, 1), torch.cat(scores, 1))
    if config.coverage_penalty:
        beams.coverage_BWS = _gather(beams.coverage_BWS, parents_BW)
    return parents_BW


def _best_candidates(
    logits_BGV: Tensor, log_normalizer_BG1: Tensor, score_BG1: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best extensions of the hypotheses of a group by one token.

    They are twice as many as the hypotheses: half of them may finish, so that enough are left to
    continue.

    Returns:
        Their scores, the hypotheses that they extend, and their tokens, [B, X].
    """
    # The best candidates of the group are among the best of each hypothesis. Normalizing only
    # those is cheaper.
    number = 2 * logits_BGV.shape[1]
    logit_BGX, token_BGX = logits_BGV.topk(min(number, logits_BGV.shape[2]))
    score_BGX = score_BG1 + logit_BGX.float() - log_normalizer_BG1

    candidates = score_BGX.flatten(1)
    score_BX, index_BX = candidates.topk(min(number, candidates.shape[1]))
    parent_BX = index_BX // score_BGX.shape[2]
    return score_BX, parent_BX, token_BGX.flatten(1).gather(1, index_BX)


def _penalize_repeated_choices(logits_BGV: Tensor, chosen: list[Tensor], penalty: float) -> Tensor:
    """Subtract the diversity penalty from each token once for every hypothesis of earlier groups
    that chose it."""
    chosen_BX = torch.cat(chosen, 1)
    ones_BX = torch.ones_like(chosen_BX).to(logits_BGV)
    count_BV = torch.zeros_like(logits_BGV[:, 0]).scatter_add_(1, chosen_BX, ones_BX)
    return logits_BGV - penalty * count_BV[:, None]


def _keep_best_finished(
    beams: Beams, group: slice, score_BX: Tensor, tokens_BXT: Tensor, end_id: int
) -> None:
    """Keep the best finished hypotheses of a group, earlier and new ones."""
    padding = beams.finished_tokens_BWT.shape[2] - tokens_BXT.shape[2]
    padded_BXT = F.pad(tokens_BXT, (0, padding), value=end_id)
    all_scores_BX = torch.cat([beams.finished_score_BW[:, group], score_BX], 1)
    all_tokens_BXT = torch.cat([beams.finished_tokens_BWT[:, group], padded_BXT], 1)

    best_score_BG, best_BG = all_scores_BX.topk(group.stop - group.start)
    beams.finished_score_BW[:, group] = best_score_BG
    beams.finished_tokens_BWT[:, group] = _gather(all_tokens_BXT, best_BG)


def _gather(values_BWT: Tensor, chosen_BX: Tensor) -> Tensor:
    """Return the values of the chosen hypotheses, [B, X, T]."""
    return values_BWT.gather(1, chosen_BX[..., None].expand(-1, -1, values_BWT.shape[2]))


def _coverage_bonus(beams: Beams, document_bias_B11S: Tensor, config: GenerationConfig) -> Tensor:
    """Return the coverage term of the score, [B, W]: the weight times sum_s log(min(coverage_s,
    1)).

    See Wu et al. 2016, equation 14.
    """
    if not config.coverage_penalty:
        return torch.zeros_like(beams.score_BW)
    is_token_B1S = document_bias_B11S[:, 0] == 0
    log_coverage_BWS = beams.coverage_BWS.clamp(EPSILON, 1.0).log().masked_fill(~is_token_B1S, 0.0)
    return config.coverage_penalty * log_coverage_BWS.sum(-1)


def length_divisor(length: int, config: GenerationConfig) -> float:
    """Return the divisor of a hypothesis's log-probability, so that long ones can win.

    ``wu`` is ((5 + length) / 6)^alpha (Wu et al. 2016, equation 14), ``average`` is length^alpha.

    Args:
        length: number of tokens, with the end token.
        config: kind and exponent.
    """
    if config.length_penalty == "none":
        return 1.0
    base = (5 + length) / 6 if config.length_penalty == "wu" else length
    return float(base**config.length_penalty_alpha)


def _cannot_improve(beams: Beams, config: GenerationConfig, time: int) -> Tensor:
    """Return whether no open hypothesis can still beat the finished ones, [B]."""
    # Scores are negative, so the largest divisor is the most favourable one. It is that of the
    # shortest or of the longest summary that an open hypothesis can become.
    largest_divisor = max(
        length_divisor(time + 1, config), length_divisor(config.max_tokens, config)
    )

    # The groups are searches of their own.
    by_group = (-1, config.num_beam_groups, config.num_beams // config.num_beam_groups)
    best_open = beams.score_BW.view(by_group).amax(2) / largest_divisor
    worst_finished = beams.finished_score_BW.view(by_group).amin(2)
    return (worst_finished >= best_open).all(1)
