"""The analysis of a trained model's heads: importance, attention, ablation and pruning curves.

``analyse`` is what the command ``heads`` runs. Loss and ROUGE under each setting of the heads, and
the importances, are stored by the evaluator, so that an interrupted analysis resumes. What takes
one pass over the documents is repeated: attention and roles, which need generated summaries, and
the outputs of all heads.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from headcount.config.schema import Config
from headcount.data.batches import Batch
from headcount.data.tokenizer import END, START, vocabulary_size
from headcount.evaluation.rouge import ROUGE_TYPES
from headcount.heads.ablation import ABLATIONS, Ablation, HeadOutputs, ablated, record_outputs
from headcount.heads.attention_maps import attention_maps, document_part
from headcount.heads.attention_statistics import attention_statistics
from headcount.heads.blocks import Head, Model, heads_of
from headcount.heads.curve import Curve, curve_point, kept_counts, order_heads, random_order
from headcount.heads.importance import importance, normalize_by_layer
from headcount.heads.measure import COMPLETE, HeadEvaluator, Measurement, Setting
from headcount.heads.roles import RoleScore, TokenKinds, find_roles, score_roles, token_kinds
from headcount.heads.statistics import PairedDifference, difference_family
from headcount.training.module import Summarizer

Values = NDArray[np.float64]
SCOPE_ALL = "all"
KINDS = (*ABLATIONS, "only")  # only: all other heads of the block are off, by zero


@dataclass(frozen=True, kw_only=True)
class HeadResult:
    """Everything that was measured of one head.

    Attributes:
        head: the head.
        importance: mean of |d loss / d gate|.
        normalized_importance: importance divided by the L2 norm of its block's importances.
        confidence: mean of the largest weight.
        entropy: mean entropy of the weights, in nats.
        distance: mean distance to the keys in tokens; NaN for cross-attention.
        gate_score: of the learned gate; NaN without learned gates.
        loss_changes: change of the loss by each kind of ablation, and by keeping only this head of
            its block (``only``).
        rouge_changes: the same for the selected ROUGE type, in points.
        roles: scores by role.
    """

    head: Head
    importance: float
    normalized_importance: float
    confidence: float
    entropy: float
    distance: float
    gate_score: float
    loss_changes: dict[str, PairedDifference]
    rouge_changes: dict[str, PairedDifference]
    roles: dict[str, RoleScore]

    @property
    def held_roles(self) -> list[str]:
        """The roles that the head has, the largest excess first."""
        held = [role for role, score in self.roles.items() if score.is_held]
        return sorted(held, key=lambda role: -self.roles[role].excess)


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The analysis of a model.

    Attributes:
        heads: a result for each head, block by block.
        curves: pruning curve of every scope and order.
        rouge: the ROUGE type of scores.
        margin: largest loss of ROUGE that is regarded as negligible, in points.
        documents: number of documents.
        loss: mean cross-entropy of the complete model.
        score: mean ROUGE of the complete model.
    """

    heads: list[HeadResult]
    curves: list[Curve]
    rouge: str
    margin: float
    documents: int
    loss: float
    score: float

    @property
    def sites(self) -> list[str]:
        """The attention sites of the model."""
        return list(dict.fromkeys(result.head.site for result in self.heads))

    def ranked_curves(self, scope: str) -> list[Curve]:
        """Return the curves of a scope whose orders rank heads by a measure: not the controls."""
        curves = [curve for curve in self.curves if curve.scope == scope]
        return [curve for curve in curves if curve.order in ORDER_MEASURES]

    def best_curve(self, scope: str) -> Curve:
        """Return the one of these curves with the largest area."""
        return max(self.ranked_curves(scope), key=lambda curve: curve.area)


# What heads are ordered by, the largest values being the most important.
ORDER_MEASURES: dict[str, Callable[[HeadResult], float]] = {
    "gradient": lambda result: result.normalized_importance,
    "one_off": lambda result: result.loss_changes["zero"].mean,
    "confidence": lambda result: result.confidence,
    "gates": lambda result: result.gate_score,
}


def count_measurements(config: Config, model: Model) -> int:
    """Return the largest number of measurements that an analysis makes, for a progress bar."""
    heads = heads_of(model)
    complete = 1
    one_by_one = len(heads) * len(KINDS)

    # Without learned gates there is one order less.
    points = 0
    for of_scope in _scopes(heads).values():
        points += len(kept_counts(len(of_scope), config.heads.points))
    orders = len([*ORDER_MEASURES, "reverse"]) + config.heads.random_orders
    return complete + one_by_one + points * orders


def analyse(evaluator: HeadEvaluator) -> Analysis:
    """Measure every head of a model.

    Args:
        evaluator: measures the model on a sample of documents.
    """
    config = evaluator.summarizer.config
    # BLEU and chrF, which may select the checkpoint, score a corpus and not a document.
    rouge = config.evaluation.select_by if config.evaluation.select_by in ROUGE_TYPES else "rougeL"

    # The curves come last: they remove heads in the order of the results.
    complete = evaluator.measure(COMPLETE)
    results = _head_results(evaluator, complete, rouge)
    curves = _pruning_curves(evaluator, results, complete, rouge)
    return Analysis(
        heads=results,
        curves=curves,
        rouge=rouge,
        margin=config.heads.margin,
        documents=len(evaluator.rows),
        loss=float(complete.losses.mean()),
        score=float(complete.rouge(rouge).mean()),
    )


def _head_results(evaluator: HeadEvaluator, complete: Measurement, rouge: str) -> list[HeadResult]:
    summarizer = evaluator.summarizer
    heads = heads_of(summarizer.model)

    gradient = _stored_importance(evaluator)
    normalized = normalize_by_layer(gradient)
    statistics, role_scores = _describe_attention(summarizer, evaluator.batches)
    roles = find_roles(role_scores)
    changes = _ablate_one_by_one(evaluator, heads, complete, rouge)

    # Most models are trained without gates.
    gate_scores = [math.nan] * len(heads)
    if summarizer.gates is not None:
        gate_scores = summarizer.gates.scores_A.tolist()

    results = []
    for head, gate_score in zip(heads, gate_scores, strict=True):
        roles_of_head = {}
        for (block, role), role_scores_H in roles.items():
            if block == head.block:
                roles_of_head[role] = role_scores_H[head.index]
        results.append(
            HeadResult(
                head=head,
                importance=float(gradient[head.block][head.index]),
                normalized_importance=float(normalized[head.block][head.index]),
                confidence=float(statistics["confidence"][head.block][head.index]),
                entropy=float(statistics["entropy"][head.block][head.index]),
                distance=float(statistics["distance"][head.block][head.index]),
                gate_score=gate_score,
                loss_changes={kind: changes[kind, "loss"][head] for kind in KINDS},
                rouge_changes={kind: changes[kind, "rouge"][head] for kind in KINDS},
                roles=roles_of_head,
            )
        )
    return results


def _stored_importance(evaluator: HeadEvaluator) -> dict[str, Values]:
    def compute() -> dict[str, list[float]]:
        profile = importance(evaluator.summarizer.model, evaluator.batches)
        return {block: values.tolist() for block, values in profile.items()}

    stored = evaluator.store.get("importance", compute)
    return {block: np.array(values) for block, values in stored.items()}


# One head at a time


def _ablate_one_by_one(
    evaluator: HeadEvaluator, heads: list[Head], complete: Measurement, rouge: str
) -> dict[tuple[str, str], dict[Head, PairedDifference]]:
    """Measure the model without each head, and with only this head in its block.

    Returns:
        By kind and by ``loss`` or ``rouge`` the change of each head. The heads of a kind are one
        family of tests.
    """
    model = evaluator.summarizer.model
    outputs: HeadOutputs | None = None
    changes: dict[tuple[str, str], dict[Head, PairedDifference]] = {}
    for kind in KINDS:
        # The outputs take a pass over all documents, so they are recorded only when a kind needs
        # them, and once.
        if kind in ("mean", "resample") and outputs is None:
            outputs = record_outputs(model, evaluator.batches)
        measured = evaluator.measure_all(_one_by_one(kind, heads, outputs))

        # Compare with the complete model, document by document.
        losses = [each.losses - complete.losses for each in measured]
        scores = [each.rouge(rouge) - complete.rouge(rouge) for each in measured]
        changes[kind, "loss"] = dict(zip(heads, difference_family(losses), strict=True))
        changes[kind, "rouge"] = dict(zip(heads, difference_family(scores), strict=True))
    return changes


def _one_by_one(kind: str, heads: list[Head], outputs: HeadOutputs | None) -> list[Setting]:
    """Return for each head the setting without it, or with only this head in its block."""
    settings = []
    for number, head in enumerate(heads):
        if kind == "only":
            others = {other for other in heads if other.block == head.block} - {head}
            settings.append(without(others))
        elif kind == "zero":
            settings.append(without({head}))
        else:
            ablation = cast(Ablation, kind)
            applied = partial(ablated, heads=[head], kind=ablation, outputs=outputs, seed=number)
            settings.append(Setting(name=f"{kind} {head}", applied=applied))
    return settings


def without(removed: set[Head]) -> Setting:
    """Return the setting with some heads switched off by zero.

    The set of heads is its name, so that curves that reach the same set in different orders share
    one measurement.
    """
    if not removed:
        return COMPLETE
    names = " ".join(sorted(map(str, removed)))
    return Setting(name=f"without {names}", applied=partial(ablated, heads=removed))


# Attention


def _describe_attention(
    summarizer: Summarizer, batches: list[Batch]
) -> tuple[dict[str, dict[str, Values]], dict[tuple[str, str], tuple[Values, Values]]]:
    """Return statistics and role scores of the attention on each document.

    Attention is that of greedy search: the decoder's input is the summary that the model has
    generated itself, not the reference.

    Returns:
        By statistic and block the means over documents, [heads]. By block and role the scores and
        the scores expected of random weights, each [documents, heads].
    """
    kinds = tokenizer_kinds(summarizer.tokenizer, summarizer.config.tokenizer.words)
    generator = np.random.default_rng(0)
    statistics: dict[str, dict[str, list[Values]]] = {}
    roles: dict[tuple[str, str], list[tuple[Values, Values]]] = {}
    for example in _with_generated_summaries(summarizer, batches):
        for attention in attention_maps(summarizer.model, example):
            of_document = attention_statistics(attention)
            for name in ("confidence", "entropy", "distance"):
                of_block = statistics.setdefault(name, {}).setdefault(attention.block, [])
                of_block.append(getattr(of_document, name))

            # The decoder of a decoder-only model attends to the document too: its heads can have
            # roles of cross-attention besides those of self-attention.
            scores = score_roles(attention, kinds, generator)
            if summarizer.model.is_decoder_only:
                to_document = document_part(attention, example.document_lengths[0])
                for role, values in score_roles(to_document, kinds, generator).items():
                    scores.setdefault(role, values)
            for role, values in scores.items():
                roles.setdefault((attention.block, role), []).append(values)

    # Statistics are averaged over documents. Roles are tested, for which each document is needed.
    means = {}
    for name, by_block in statistics.items():
        means[name] = {block: _mean_of_finite(values) for block, values in by_block.items()}
    stacked = {}
    for key, documents in roles.items():
        observed = np.stack([scores for scores, _ in documents])
        expected = np.stack([expectation for _, expectation in documents])
        stacked[key] = (observed, expected)
    return means, stacked


def _mean_of_finite(values: list[Values]) -> Values:
    """Return means over documents [heads]; unlike ``np.nanmean``, no warning where all are NaN."""
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    total = np.where(known, stacked, 0.0).sum(0)
    counts = known.sum(0)
    return np.divide(total, counts, out=np.full_like(total, np.nan), where=counts > 0)


def _with_generated_summaries(summarizer: Summarizer, batches: list[Batch]) -> Iterator[Batch]:
    """Yield each document with the summary that the model generates by greedy search."""
    start, end = summarizer.token_ids[START], summarizer.token_ids[END]
    for batch in batches:
        generated = summarizer.generate(batch, greedy=True)
        for example, [best, *_] in zip(batch.pieces(1), generated, strict=True):
            ids = [start, *best.generated(end)]
            yield Batch(
                indices=example.indices,
                document_ids=example.document_ids,
                document_lengths=example.document_lengths,
                summary_ids=example.summary_ids.new_tensor(ids),
                summary_lengths=[len(ids)],
            )


def tokenizer_kinds(tokenizer: Tokenizer, words: str | None) -> TokenKinds:
    """Return which tokens of a tokenizer are delimiters, and which ``tokenizer.words`` names."""
    size = vocabulary_size(tokenizer)
    special = {token for token in map(tokenizer.token_to_id, (START, END)) if token is not None}
    pattern = re.compile(words) if words else None

    def is_word(text: str) -> bool:
        return pattern is not None and pattern.fullmatch(text) is not None

    return token_kinds([tokenizer.decode([token]) for token in range(size)], special, is_word)


# Pruning curves


def _scopes(heads: list[Head]) -> dict[str, list[Head]]:
    """Return the heads of each scope: all, and each site if there are several."""
    scopes = {SCOPE_ALL: heads}
    sites = list(dict.fromkeys(head.site for head in heads))
    if len(sites) > 1:
        for site in sites:
            scopes[site] = [head for head in heads if head.site == site]
    return scopes


def head_orders(results: list[HeadResult], random_orders: int) -> dict[str, list[Head]]:
    """Return the orders in which heads are removed, the least important first, by name.

    They are ``gradient``, ``one_off`` (by the loss without the head), ``confidence``, ``gates``
    (if they are learned) and two controls: ``reverse``, which is ``one_off`` with the most
    important head first, and ``random_orders`` random ones.
    """
    orders = {}
    for name, measure in ORDER_MEASURES.items():
        if name != "gates" or not math.isnan(results[0].gate_score):
            orders[name] = order_heads({result.head: measure(result) for result in results})
    orders["reverse"] = order_heads(
        {result.head: -result.loss_changes["zero"].mean for result in results}
    )

    heads = [result.head for result in results]
    for number in range(1, random_orders + 1):
        orders[f"random-{number}"] = random_order(heads, number)
    return orders


def _pruning_curves(
    evaluator: HeadEvaluator, results: list[HeadResult], complete: Measurement, rouge: str
) -> list[Curve]:
    """Measure ROUGE along every order, in every scope: heads outside the scope are kept."""
    config = evaluator.summarizer.config.heads
    heads = [result.head for result in results]
    orders = head_orders(results, config.random_orders)

    # By scope and order the setting of each number of kept heads.
    planned: dict[tuple[str, str], dict[int, Setting]] = {}
    scopes = _scopes(heads)
    for scope, in_scope in scopes.items():
        for name, order in orders.items():
            of_scope = [head for head in order if head in in_scope]
            planned[scope, name] = {
                kept: without(set(of_scope[: len(of_scope) - kept]))
                for kept in kept_counts(len(of_scope), config.points)
            }

    # Measure the points of all curves together, so that no thread waits at the end of a curve.
    settings: list[Setting] = []
    for by_kept in planned.values():
        settings.extend(by_kept.values())
    measured = iter(evaluator.measure_all(settings))

    curves = []
    for (scope, name), by_kept in planned.items():
        points = [
            curve_point(kept, next(measured), complete, rouge=rouge, margin=config.margin)
            for kept in by_kept
        ]
        curves.append(Curve(scope=scope, order=name, heads=len(scopes[scope]), points=points))
    return curves
