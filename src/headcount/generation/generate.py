"""Writing summaries with a trained model: greedily, by sampling, by beam search.

A document's hypotheses share its keys and values and one cache of what was written; finished documents leave the batch.
Shapes are suffixes of names:

    B documents, N document tokens of all of them, W hypotheses of each, G groups of hypotheses, T tokens written,
    S document tokens, V vocabulary_size, X candidates
"""

import math
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from headcount.generation.constraints import Constraints, nucleus
from headcount.model.base import AnyState, SummaryModel
from headcount.model.copying import LEAST
from headcount.model.ragged import Rows


@dataclass(frozen=True, kw_only=True)
class LengthPenalty:
    """What a hypothesis's log-probability is divided by, so that long ones can win.

    Attributes:
        kind: wu is ((5 + length) / 6)^alpha (Wu et al. 2016, equation 14), average is length^alpha, none is 1.
        alpha: the exponent.
    """

    kind: Literal["wu", "average", "none"] = "wu"
    alpha: float = 1.0

    def of(self, length: int) -> float:
        """Return the divisor for a length in tokens, the end token included."""
        if self.kind == "none":
            return 1.0
        return float(((5 + length) / 6 if self.kind == "wu" else length) ** self.alpha)


@dataclass(frozen=True, kw_only=True)
class Search:
    """How summaries are looked for.

    Attributes:
        start_id: token that every summary starts from.
        end_id: token that ends a summary.
        max_tokens: longest summary, the end token included.
        constraints: what may not be written.
        width: hypotheses of each document that are kept (beam search) or drawn (sampling).
        groups: of diverse beam search (Vijayakumar et al. 2018); they divide width.
        diversity: what a group takes off the log-probability of a token for each earlier group that just chose it.
        length_penalty: of beam search.
        coverage_penalty: weight of what of the document was not looked at (Wu et al. 2016, equation 14).
    """

    start_id: int
    end_id: int
    max_tokens: int
    constraints: Constraints = field(default_factory=Constraints)
    width: int = 1
    groups: int = 1
    diversity: float = 0.0
    length_penalty: LengthPenalty = field(default_factory=LengthPenalty)
    coverage_penalty: float = 0.0


@dataclass(frozen=True)
class Hypothesis:
    """A summary: its tokens without start and end token, its score, and whether it ended by itself."""

    tokens: list[int]
    score: float
    ended: bool


@torch.inference_mode()
def write(
    model: SummaryModel[AnyState],
    document_ids_N: Tensor,
    rows: Rows,
    search: Search,
    *,
    sampling: "Sampling | None" = None,
) -> list[list[Hypothesis]]:
    """Write summaries token by token: always the likeliest, or drawn.

    Args:
        model: in evaluation mode.
        document_ids_N: the documents, end to end.
        rows: where they begin and end.
        search: limits, and with sampling how many summaries of each document are drawn.
        sampling: how tokens are drawn; None: the likeliest is taken.

    Returns:
        For each document its summaries, the likeliest first; their scores are log-probabilities.
    """
    width = 1 if sampling is None else search.width
    document_ids_N, rows, active = _longest_first(document_ids_N, rows)
    state = model.start(document_ids_N, rows, capacity=search.max_tokens, width=width)
    results: list[list[Hypothesis]] = [[] for _ in active]
    device = document_ids_N.device
    token_BW = torch.full((len(active), width), search.start_id, device=device)
    written_BWT = token_BW.new_empty(len(active), width, 0)
    score_BW = torch.zeros(len(active), width, device=device)
    ended_BW = torch.zeros(len(active), width, dtype=torch.bool, device=device)
    for time in range(search.max_tokens):
        logits_BWV = model.step(token_BW, state)
        total_BW = log_total(logits_BWV)
        logits_BWV = search.constraints.apply(logits_BWV, written_BWT, search.end_id)
        if sampling is None:
            token_BW = logits_BWV.argmax(-1)
        else:
            token_BW = sampling.draw(logits_BWV.flatten(0, 1)).view(token_BW.shape)
        token_BW = torch.where(ended_BW, search.end_id, token_BW)
        chosen_BW = logits_BWV.gather(-1, token_BW[..., None])[..., 0].float() - total_BW
        score_BW = score_BW + torch.where(ended_BW, 0.0, chosen_BW)
        ended_BW = ended_BW | (token_BW == search.end_id)
        written_BWT = torch.cat([written_BWT, token_BW[..., None]], -1)
        done_B = ended_BW.all(1) if time + 1 < search.max_tokens else torch.ones_like(ended_BW[:, 0])
        if done_B.any():
            finished = zip(done_B.tolist(), written_BWT.tolist(), score_BW.tolist(), strict=True)
            for index, (done, texts, scores) in zip(active, finished, strict=True):
                if done:
                    ranked = sorted(zip(texts, scores, strict=True), key=lambda pair: -pair[1])
                    results[index] = [_hypothesis(text, score, search.end_id) for text, score in ranked]
            going = (~done_B).nonzero()[:, 0]
            if not len(going):
                break
            state.keep(going)
            active = [active[row] for row in going.tolist()]
            token_BW, written_BWT = token_BW[going], written_BWT[going]
            score_BW, ended_BW = score_BW[going], ended_BW[going]
    return results


def log_total(logits_BWV: Tensor) -> Tensor:
    """Return the logarithm of what probabilities are normalized by, [B, W]; log_softmax has it in one pass.

    Of logits as the model gives them: the first token's is finite, and not far below the rest.
    """
    first_BW = logits_BWV[..., 0].float()
    return first_BW - logits_BWV.float().log_softmax(-1)[..., 0]


def _longest_first(document_ids_N: Tensor, rows: Rows) -> tuple[Tensor, Rows, list[int]]:
    """Return the documents sorted by length, so that a model has less to pad, and which each of them was."""
    order = sorted(range(len(rows.lengths)), key=lambda document: -rows.lengths[document])
    documents = document_ids_N.split(rows.lengths)
    lengths = [rows.lengths[document] for document in order]
    return torch.cat([documents[document] for document in order]), Rows.of(lengths, document_ids_N.device), order


def _hypothesis(text: list[int], score: float, end_id: int) -> Hypothesis:
    ended = end_id in text
    return Hypothesis(text[: text.index(end_id)] if ended else text, score, ended)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn; see ``nucleus``."""

    generator: torch.Generator
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def draw(self, logits_RV: Tensor) -> Tensor:
        """Draw a token a row."""
        kept_RV = nucleus(logits_RV, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)
        return kept_RV.softmax(-1).multinomial(1, generator=self.generator)[:, 0]


@dataclass
class _Beams:
    """The hypotheses of the documents still in the batch; the end token fills texts up.

    Attributes:
        token_BW: last token of each.
        score_BW: log-probability of each, less what diversity took off.
        written_BWT: tokens of each.
        looked_BWS: attention that each has given to the document's tokens; zero without a coverage penalty.
        ended_score_BW: score of the best that ended, -inf where none did.
        ended_text_BWT: their tokens.
    """

    token_BW: Tensor
    score_BW: Tensor
    written_BWT: Tensor
    looked_BWS: Tensor
    ended_score_BW: Tensor
    ended_text_BWT: Tensor

    def keep(self, documents: Tensor) -> None:
        """Keep these documents alone."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name)[documents])


@torch.inference_mode()
def beam_search(
    model: SummaryModel[AnyState], document_ids_N: Tensor, rows: Rows, search: Search
) -> list[list[Hypothesis]]:
    """Write summaries by beam search; with groups, by diverse beam search.

    A document is done when no hypothesis that goes on can still beat the worst of the ``width`` best that ended: its
    log-probability can only fall, so the bound is its present one with the kindest length penalty and full coverage.
    Nothing better is ever lost to stopping early.

    Args:
        model: in evaluation mode.
        document_ids_N: the documents, end to end.
        rows: where they begin and end.
        search: how to search.

    Returns:
        For each document up to ``width`` summaries, the best first.
    """
    documents, width, device = len(rows.lengths), search.width, document_ids_N.device
    document_ids_N, rows, active = _longest_first(document_ids_N, rows)
    state = model.start(document_ids_N, rows, capacity=search.max_tokens, width=width)
    state.track_attention = search.coverage_penalty > 0
    first = torch.arange(width, device=device) % (width // search.groups) == 0  # all begin alike: one a group counts
    beams = _Beams(
        token_BW=torch.full((documents, width), search.start_id, device=device),
        score_BW=torch.where(first, 0.0, -math.inf).repeat(documents, 1),
        written_BWT=torch.empty(documents, width, 0, dtype=torch.long, device=device),
        looked_BWS=torch.zeros(documents, width, rows.longest, device=device),
        ended_score_BW=torch.full((documents, width), -math.inf, device=device),
        ended_text_BWT=torch.full((documents, width, search.max_tokens), search.end_id, device=device),
    )
    results: list[list[Hypothesis]] = [[] for _ in active]
    for time in range(1, search.max_tokens + 1):
        logits_BWV = model.step(beams.token_BW, state)
        if state.track_attention and state.look_BWS is not None:
            beams.looked_BWS = beams.looked_BWS + state.look_BWS
        parents_BW = _extend(logits_BWV, beams, state.document_mask_B11S[:, 0] == 0, search)
        done_B = _cannot_improve(beams, search, time)
        if done_B.any():
            done = done_B.nonzero()[:, 0]
            ended = zip(beams.ended_score_BW[done].tolist(), beams.ended_text_BWT[done].tolist(), strict=True)
            for row, (scores, texts) in zip(done.tolist(), ended, strict=True):
                ranked = sorted(zip(scores, texts, strict=True), key=lambda pair: -pair[0])
                found = [_hypothesis(text, score, search.end_id) for score, text in ranked if score > -math.inf]
                results[active[row]] = found
            going = (~done_B).nonzero()[:, 0]
            if not len(going):
                break
            state.keep(going)
            beams.keep(going)
            parents_BW, active = parents_BW[going], [active[row] for row in going.tolist()]
        state.branch(parents_BW)
    return results


def _extend(logits_BWV: Tensor, beams: _Beams, real_B1S: Tensor, search: Search) -> Tensor:
    """Choose the tokens that each group goes on with, and keep the best hypotheses that end.

    Returns:
        For each hypothesis the one that it goes on from, [B, W].
    """
    width, time = logits_BWV.shape[1], beams.written_BWT.shape[2] + 1
    each, last = width // search.groups, time == search.max_tokens
    total_BW1 = log_total(logits_BWV)[..., None]
    logits_BWV = search.constraints.apply(logits_BWV, beams.written_BWT, search.end_id)
    bonus_BW = torch.zeros_like(beams.score_BW)
    if search.coverage_penalty:
        covered_BWS = beams.looked_BWS.clamp(LEAST, 1.0).log().masked_fill(~real_B1S, 0.0)
        bonus_BW = search.coverage_penalty * covered_BWS.sum(-1)
    parents: list[Tensor] = []
    tokens: list[Tensor] = []
    scores: list[Tensor] = []
    for begin in range(0, width, each):
        group = slice(begin, begin + each)
        logits_BGV = logits_BWV[:, group]
        if tokens and search.diversity:
            chosen_BX = torch.cat(tokens, 1)
            taken_BV = torch.zeros_like(logits_BGV[:, 0]).scatter_add_(
                1, chosen_BX, torch.ones_like(chosen_BX).to(logits_BGV)
            )
            logits_BGV = logits_BGV - search.diversity * taken_BV[:, None]
        value_BGX, token_BGX = logits_BGV.topk(min(2 * each, logits_BGV.shape[2]))  # then normalized: far fewer
        candidate_BX = (beams.score_BW[:, group, None] + value_BGX.float() - total_BW1[:, group]).flatten(1)
        score_BX, place_BX = candidate_BX.topk(min(2 * each, candidate_BX.shape[1]))
        parent_BX = begin + place_BX // value_BGX.shape[2]
        token_BX = token_BGX.flatten(1).gather(1, place_BX)
        ends_BX = (token_BX == search.end_id) | last
        text_BXT = torch.cat([_of(beams.written_BWT, parent_BX), token_BX[..., None]], 2)
        final_BX = score_BX / search.length_penalty.of(time) + bonus_BW.gather(1, parent_BX)
        final_BX[:, each:] = -math.inf  # as a candidate that goes on would have had to be among the best, too
        _keep_ended(beams, group, final_BX.masked_fill(~ends_BX, -math.inf), text_BXT, search.end_id)
        going_BX, chosen_BG = score_BX.masked_fill(ends_BX, -math.inf).topk(min(each, score_BX.shape[1]))
        parents.append(parent_BX.gather(1, chosen_BG))
        tokens.append(token_BX.gather(1, chosen_BG))
        scores.append(going_BX)
    parents_BW = torch.cat(parents, 1)
    beams.token_BW, beams.score_BW = torch.cat(tokens, 1), torch.cat(scores, 1)
    beams.written_BWT = torch.cat([_of(beams.written_BWT, parents_BW), beams.token_BW[..., None]], 2)
    if search.coverage_penalty:
        beams.looked_BWS = _of(beams.looked_BWS, parents_BW)
    return parents_BW


def _keep_ended(beams: _Beams, group: slice, score_BX: Tensor, text_BXT: Tensor, end_id: int) -> None:
    """Keep a group's best hypotheses that ended, old and new."""
    filled_BXT = F.pad(text_BXT, (0, beams.ended_text_BWT.shape[2] - text_BXT.shape[2]), value=end_id)
    scores, texts = (
        torch.cat([beams.ended_score_BW[:, group], score_BX], 1),
        torch.cat([beams.ended_text_BWT[:, group], filled_BXT], 1),
    )
    beams.ended_score_BW[:, group], best_BG = scores.topk(group.stop - group.start)
    beams.ended_text_BWT[:, group] = _of(texts, best_BG)


def _of(values_BWT: Tensor, chosen_BX: Tensor) -> Tensor:
    """Return the chosen hypotheses' values, [B, X, T]."""
    return values_BWT.gather(1, chosen_BX[..., None].expand(-1, -1, values_BWT.shape[2]))


def _cannot_improve(beams: _Beams, search: Search, time: int) -> Tensor:
    """Return whether each document's search is over, [B]."""
    groups = -1, search.groups, search.width // search.groups
    longest = max(search.length_penalty.of(time + 1), search.length_penalty.of(search.max_tokens))
    bound_BG = beams.score_BW.view(groups).amax(2) / longest
    return (beams.ended_score_BW.view(groups).amin(2) >= bound_BG).all(1)
