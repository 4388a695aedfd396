"""What a model wrote for a document: its tokens, their probabilities, and what it attended to."""

from dataclasses import dataclass

import numpy as np
import torch

from headcount.data.batches import Batch
from headcount.data.tokenizer import END, START
from headcount.generation.hypothesis import Hypothesis
from headcount.heads.attention_maps import recorded_weights
from headcount.model.attention_blocks import attention_blocks
from headcount.model.copying import EPSILON, upcast
from headcount.model.output import ModelOutput
from headcount.model.ragged import BatchLayout
from headcount.page.maps import AttentionMap, Weights, cells_of, pool, spread
from headcount.page.pieces import pieces, token_name
from headcount.training.module import Summarizer

ALTERNATIVES = 4  # of each written token


@dataclass(frozen=True, kw_only=True)
class WrittenToken:
    """A token of a summary.

    Attributes:
        text: of the token.
        probability: the model's, without constraints of the search.
        copied: share of that probability which came from copying; None: the model does not copy.
        alternatives: the most probable other tokens, with their probabilities.
    """

    text: str
    probability: float
    copied: float | None
    alternatives: list[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a model wrote for a document.

    Attributes:
        tokens: of the document, as far as the model has read it.
        summary: the text.
        finished: whether it ended by itself.
        written: its tokens, with the end token if it was written.
        maps: attention of every block. Row t of a map to the document, or of one within the
            summary, is what token t attended to when it was written.
    """

    tokens: list[str]
    summary: str
    finished: bool
    written: list[WrittenToken]
    maps: list[AttentionMap]


@torch.inference_mode()
def explain(summarizer: Summarizer, batch: Batch, hypothesis: Hypothesis) -> Explanation:
    """Read a generated summary again and return what the model thought of it.

    Args:
        summarizer: in evaluation mode.
        batch: one document.
        hypothesis: its summary, by ``Summarizer.generate``.
    """
    device = summarizer.device
    written = hypothesis.generated(summarizer.token_ids[END])
    inputs = [summarizer.token_ids[START], *written[:-1]]
    document_ids_N = batch.document_ids.to(device)
    with recorded_weights(summarizer.model) as weights:
        output: ModelOutput = summarizer.model(
            document_ids_N,
            BatchLayout.from_lengths(batch.document_lengths, device),
            torch.tensor(inputs, device=device),
            BatchLayout.from_lengths([len(inputs)], device),
            return_weights=True,
        )
    if not weights:  # additive attention returns its weights itself
        weights["cross.0"] = output.weights[0]

    by_block = {name: each[0].double().cpu().numpy() for name, each in weights.items()}
    if summarizer.model.is_decoder_only:
        to_document = [layer[0].double().cpu().numpy() for layer in output.weights]
        maps = _decoder_only_maps(by_block, to_document, batch.document_lengths[0])
    else:
        maps = [_map(name, block=name, weights=by_block[name]) for name in _names(summarizer)]
    return Explanation(
        tokens=pieces(summarizer.tokenizer, document_ids_N.tolist()),
        summary=summarizer.text_of(hypothesis),
        finished=hypothesis.finished,
        written=_written_tokens(summarizer, output, written),
        maps=_fit(maps),
    )


def _names(summarizer: Summarizer) -> list[str]:
    return list(attention_blocks(summarizer.model))


def _map(name: str, *, block: str, weights: Weights) -> AttentionMap:
    site, layer = name.split(".")
    return AttentionMap(
        site=site, layer=int(layer), block=block, weights=weights, entropy=spread(weights)
    )


def _decoder_only_maps(
    by_block: dict[str, Weights], to_document: list[Weights], document_tokens: int
) -> list[AttentionMap]:
    """Return the parts of a decoder-only model's attention: within the document, within the
    summary, and from the summary to the document, which is normalized over the document.

    The last layer does not read the document, so it has no part within it.
    """
    within_document = []
    within_summary = []
    cross = []
    for layer, (block, weights) in enumerate(by_block.items()):
        targets = to_document[layer].shape[1]
        if weights.shape[1] > targets:
            inner = weights[:, :document_tokens, :document_tokens]
            within_document.append(_map(f"encoder.{layer}", block=block, weights=inner))
        summary = weights[:, -targets:, document_tokens:]
        within_summary.append(_map(f"decoder.{layer}", block=block, weights=summary))
        cross.append(_map(f"cross.{layer}", block=block, weights=to_document[layer]))
    return [*within_document, *within_summary, *cross]


def _fit(maps: list[AttentionMap]) -> list[AttentionMap]:
    """Pool the attention within a long document, so that a page stays small."""
    heads = sum(len(each.weights) for each in maps if each.site == "encoder")
    fitted = []
    for each in maps:
        tokens = each.weights.shape[-1]
        if each.site != "encoder" or cells_of(tokens, heads) == tokens:
            fitted.append(each)
            continue
        span = -(-tokens // cells_of(tokens, heads))
        fitted.append(
            AttentionMap(
                site=each.site,
                layer=each.layer,
                block=each.block,
                weights=pool(each.weights, span),
                entropy=each.entropy,
                span=span,
            )
        )
    return fitted


def _written_tokens(
    summarizer: Summarizer, output: ModelOutput, written: list[int]
) -> list[WrittenToken]:
    probability_MV = output.log_probabilities().exp()
    targets_M = torch.tensor(written, device=probability_MV.device)
    chosen_M = probability_MV.gather(1, targets_M[:, None])[:, 0]
    copied_M = _copied(output, targets_M, chosen_M)

    # One more alternative than needed: the written token may be among them.
    top = probability_MV.topk(min(ALTERNATIVES + 1, probability_MV.shape[1]))
    texts = pieces(summarizer.tokenizer, written)
    tokens = []
    for index, token in enumerate(written):
        others = zip(top.indices[index].tolist(), top.values[index].tolist(), strict=True)
        alternatives = [
            (token_name(summarizer.tokenizer, other), round(value, 4))
            for other, value in others
            if other != token
        ]
        tokens.append(
            WrittenToken(
                text=texts[index],
                probability=round(chosen_M[index].item(), 4),
                copied=None if copied_M is None else round(float(copied_M[index]), 3),
                alternatives=alternatives[:ALTERNATIVES],
            )
        )
    return tokens


def _copied(
    output: ModelOutput, targets_M: torch.Tensor, chosen_M: torch.Tensor
) -> np.ndarray | None:
    """Return the share of each token's probability that came from copying it."""
    if output.gate_M is None:
        return None
    [pointer_TS] = output.pointers
    [ids_S] = output.document_ids
    attention_M = (upcast(pointer_TS) * (targets_M[:, None] == ids_S)).sum(1)
    copied_M = upcast(output.gate_M).sigmoid() * attention_M
    share: np.ndarray = (copied_M / chosen_M.clamp_min(EPSILON)).clamp(0, 1).cpu().numpy()
    return share
