"""A generated summary explained: its tokens, their probabilities, and the attention."""

import math
from dataclasses import dataclass, replace

import torch

from headcount.data.batches import Batch
from headcount.data.tokenizer import END, START, token_name
from headcount.generation.hypothesis import Hypothesis
from headcount.heads.attention_maps import recorded_weights
from headcount.model.attention_blocks import attention_blocks
from headcount.model.copying import CopyOutput
from headcount.model.output import ModelOutput
from headcount.model.ragged import BatchLayout
from headcount.page.maps import AttentionMap, Weights, cells_per_side, mean_perplexity, pool
from headcount.page.pieces import pieces
from headcount.training.module import Summarizer

ALTERNATIVES = 4  # other tokens that are shown for each token of a summary


@dataclass(frozen=True, kw_only=True)
class WrittenToken:
    """A token of a summary.

    Attributes:
        text: text of the token.
        probability: the model's probability, before the constraints of the search.
        copied: share of that probability that came from copying; None: the model does not copy.
        alternatives: the most probable other tokens, with their probabilities.
    """

    text: str
    probability: float
    copied: float | None
    alternatives: list[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The summary of a document and how it was generated.

    Attributes:
        tokens: text of each token of the document, up to the length at which it is cut.
        summary: text of the summary.
        finished: whether the summary ends with the end token; if not, its length was limited.
        written: tokens of the summary, with the end token if it was generated.
        maps: attention of every block. Row t of a map of the decoder is the attention with which
            token t of the summary was generated.
    """

    tokens: list[str]
    summary: str
    finished: bool
    written: list[WrittenToken]
    maps: list[AttentionMap]


@torch.inference_mode()
def explain(summarizer: Summarizer, batch: Batch, hypothesis: Hypothesis) -> Explanation:
    """Return the probabilities and the attention of a generated summary.

    They are those of one forward pass under teacher forcing, which equal those of the search up to
    rounding.

    Args:
        summarizer: in evaluation mode.
        batch: one document.
        hypothesis: its summary, by ``Summarizer.generate``.
    """
    device = summarizer.device
    written = hypothesis.generated(summarizer.token_ids[END])
    inputs = [summarizer.token_ids[START], *written[:-1]]
    document_ids_N = batch.document_ids.to(device)

    # Run the model on document and summary, and record the weights of its blocks.
    with recorded_weights(summarizer.model) as weights:
        output: ModelOutput = summarizer.model(
            document_ids_N,
            BatchLayout.from_lengths(batch.document_lengths, device),
            torch.tensor(inputs, device=device),
            BatchLayout.from_lengths([len(inputs)], device),
            return_weights=True,
        )
    # Additive attention has no multi-head block to record; the model returns its weights.
    if not weights:
        weights["cross.0"] = output.weights[0]
    by_block = {name: each[0].double().cpu().numpy() for name, each in weights.items()}

    # A decoder-only model has one block per layer, which is shown in three parts.
    if summarizer.model.is_decoder_only:
        to_document = [layer[0].double().cpu().numpy() for layer in output.weights]
        maps = _decoder_only_maps(by_block, to_document, batch.document_lengths[0])
    else:
        names = attention_blocks(summarizer.model)
        maps = [_map(name, block=name, weights=by_block[name]) for name in names]

    return Explanation(
        tokens=pieces(summarizer.tokenizer, document_ids_N.tolist()),
        summary=summarizer.text_of(hypothesis),
        finished=hypothesis.finished,
        written=_written_tokens(summarizer, output, written),
        maps=_pool_long_documents(maps),
    )


def _map(name: str, *, block: str, weights: Weights) -> AttentionMap:
    site, layer = name.split(".")
    return AttentionMap(
        site=site,
        layer=int(layer),
        block=block,
        weights=weights,
        perplexity=mean_perplexity(weights),
    )


def _decoder_only_maps(
    by_block: dict[str, Weights], to_document: list[Weights], document_tokens: int
) -> list[AttentionMap]:
    """Return a decoder-only model's attention in three parts: within the document, within the
    summary, and from the summary to the document, normalized over the document.

    The last layer has no queries of the document, so its first part does not exist.
    """
    within_document = []
    within_summary = []
    cross = []
    for layer, (block, weights) in enumerate(by_block.items()):
        targets = to_document[layer].shape[1]

        # Queries and keys are the document and then the summary.
        if weights.shape[1] > targets:
            inner = weights[:, :document_tokens, :document_tokens]
            within_document.append(_map(f"encoder.{layer}", block=block, weights=inner))
        summary = weights[:, -targets:, document_tokens:]
        within_summary.append(_map(f"decoder.{layer}", block=block, weights=summary))
        cross.append(_map(f"cross.{layer}", block=block, weights=to_document[layer]))
    return [*within_document, *within_summary, *cross]


def _pool_long_documents(maps: list[AttentionMap]) -> list[AttentionMap]:
    """Pool the attention within a long document, whose size is quadratic in the length."""
    heads = sum(len(each.weights) for each in maps if each.site == "encoder")
    pooled = []
    for each in maps:
        tokens = each.weights.shape[-1]
        cells = cells_per_side(tokens, heads)
        if each.site != "encoder" or cells == tokens:
            pooled.append(each)
            continue

        # The perplexity stays that of the attention between tokens.
        span = math.ceil(tokens / cells)
        pooled.append(replace(each, weights=pool(each.weights, span), span=span))
    return pooled


def _written_tokens(
    summarizer: Summarizer, output: ModelOutput, written: list[int]
) -> list[WrittenToken]:
    probability_MV = output.log_probabilities().exp()
    targets_M = torch.tensor(written, device=probability_MV.device)
    chosen_M = probability_MV.gather(1, targets_M[:, None])[:, 0]
    copied_M = output.copied_share(targets_M, chosen_M) if isinstance(output, CopyOutput) else None

    # One more alternative than needed: the token of the summary may be among them.
    top = probability_MV.topk(min(ALTERNATIVES + 1, probability_MV.shape[1]))
    texts = pieces(summarizer.tokenizer, written)
    tokens = []
    for index, token in enumerate(written):
        alternatives = []
        others = zip(top.indices[index].tolist(), top.values[index].tolist(), strict=True)
        for other, value in others:
            if other != token:
                name = token_name(summarizer.tokenizer, other)
                alternatives.append((name, round(value, 4)))

        tokens.append(
            WrittenToken(
                text=texts[index],
                probability=round(chosen_M[index].item(), 4),
                copied=None if copied_M is None else round(float(copied_M[index]), 3),
                alternatives=alternatives[:ALTERNATIVES],
            )
        )
    return tokens
