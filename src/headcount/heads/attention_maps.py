"""The attention weights of every head on one document, with the tokens of queries and keys.

Roles and statistics need to know, for each weight, which token attends to which and whether it
could have attended to another. Queries of decoder and cross-attention are the decoder's inputs:
the start token and the tokens of the summary. In a decoder-only model the tokens of the document
precede them.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headcount.data.batches import Batch
from headcount.data.tokenizer import END, START
from headcount.heads.blocks import Model, site_of
from headcount.model.attention import MultiHeadAttention
from headcount.model.attention_blocks import AttentionBlock, attention_blocks, block_name
from headcount.model.ragged import BatchLayout
from headcount.training.decoding import encode_documents
from headcount.training.module import Summarizer, shift_by_one

Weights = NDArray[np.float64]
Mask = NDArray[np.bool_]
Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """The weights of one attention block on one document.

    Attributes:
        block: name of the block.
        weights: [heads, queries, keys]; each row sums to one.
        allowed: which keys a query may attend to, [queries, keys].
        query_ids: tokens of the queries, [queries].
        key_ids: tokens of the keys, [keys].
        positions: position of each query among the keys, [queries]; None for cross-attention.
        next_ids: the token that follows each query, which the decoder predicts there, [queries];
            None in the encoder.
    """

    block: str
    weights: Weights
    allowed: Mask
    query_ids: Ids
    key_ids: Ids
    positions: Ids | None
    next_ids: Ids | None

    @property
    def site(self) -> str:
        """Encoder, decoder or cross."""
        return site_of(self.block)


@torch.inference_mode()
def maps_of_text(summarizer: Summarizer, text: str) -> list[AttentionMap]:
    """Generate the summary of a text, and return the attention maps of all blocks on the two.

    Args:
        summarizer: in evaluation mode.
        text: the document.
    """
    batch = encode_documents(summarizer, [text]).batch([0])
    [[best, *_]] = summarizer.generate(batch)
    ids = [summarizer.token_ids[START], *best.generated(summarizer.token_ids[END])]
    with_summary = replace(
        batch,
        summary_ids=torch.tensor(ids, dtype=batch.document_ids.dtype),
        summary_lengths=[len(ids)],
    )
    return attention_maps(summarizer.model, with_summary)


@torch.inference_mode()
def attention_maps(model: Model, batch: Batch) -> list[AttentionMap]:
    """Return the attention maps of all blocks of a model on a batch of one example.

    Args:
        model: in evaluation mode.
        batch: one document with the summary that is the decoder's input.
    """
    # One forward pass under teacher forcing gives the weights of all steps.
    device = next(model.parameters()).device
    inputs_M, targets_M, layout = shift_by_one(batch.summary_ids.to(device), batch.summary_lengths)
    document_ids_N = batch.document_ids.to(device)
    document_layout = BatchLayout.from_lengths(batch.document_lengths, device)
    with recorded_weights(model) as weights:
        output = model(document_ids_N, document_layout, inputs_M, layout, return_weights=True)
    # Additive attention has no multi-head block to record; the model returns its weights.
    if not weights:
        weights["cross.0"] = output.weights[0]

    document = document_ids_N.cpu().numpy().astype(np.int64)
    inputs = inputs_M.cpu().numpy().astype(np.int64)
    targets = targets_M.cpu().numpy().astype(np.int64)

    maps = []
    for name in attention_blocks(model):
        weights_HTS = weights[name][0].double().cpu().numpy()
        if model.is_decoder_only:
            maps.append(_decoder_only_map(name, weights_HTS, document, inputs, targets))
        else:
            maps.append(_encoder_decoder_map(name, weights_HTS, document, inputs, targets))
    return maps


def _encoder_decoder_map(
    name: str, weights: Weights, document: Ids, inputs: Ids, targets: Ids
) -> AttentionMap:
    site = site_of(name)
    queries = document if site == "encoder" else inputs
    keys = inputs if site == "decoder" else document
    allowed = np.ones((len(queries), len(keys)), dtype=bool)
    return AttentionMap(
        block=name,
        weights=weights,
        allowed=np.tril(allowed) if site == "decoder" else allowed,
        query_ids=queries,
        key_ids=keys,
        positions=None if site == "cross" else np.arange(len(queries)),
        next_ids=None if site == "encoder" else targets,
    )


def _decoder_only_map(
    name: str, weights: Weights, document: Ids, inputs: Ids, targets: Ids
) -> AttentionMap:
    """Return the map of a block whose keys are the document and then the summary.

    The last layer computes only the queries of the summary, which are the last tokens.
    """
    keys = np.concatenate([document, inputs])
    positions = np.arange(len(keys) - weights.shape[1], len(keys))

    # What follows a token of the document is the next one, and after the last one the start token.
    following = np.concatenate([document[1:], inputs[:1], targets])
    return AttentionMap(
        block=name,
        weights=weights,
        allowed=np.arange(len(keys)) <= positions[:, None],
        query_ids=keys[positions],
        key_ids=keys,
        positions=positions,
        next_ids=following[positions],
    )


def document_part(attention: AttentionMap, document_tokens: int) -> AttentionMap:
    """Return a decoder-only model's attention from the summary to the document as a map of
    cross-attention, with weights normalized over the document.

    Args:
        attention: the map of a block of a decoder-only model.
        document_tokens: number of keys that are the document.
    """
    assert attention.positions is not None
    is_summary = attention.positions >= document_tokens
    weights = attention.weights[:, is_summary, :document_tokens]
    total = weights.sum(-1, keepdims=True)
    next_ids = attention.next_ids
    return replace(
        attention,
        weights=np.divide(weights, total, out=np.zeros_like(weights), where=total > 0),
        allowed=attention.allowed[is_summary, :document_tokens],
        query_ids=attention.query_ids[is_summary],
        key_ids=attention.key_ids[:document_tokens],
        positions=None,
        next_ids=None if next_ids is None else next_ids[is_summary],
    )


@contextmanager
def recorded_weights(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Make every multi-head attention block return its weights within a ``with`` statement, and
    collect those of the last forward pass.

    Yields:
        By the block's name the weights of each example, a list of [H, T, S].
    """
    found: dict[str, list[Tensor]] = {}
    with ExitStack() as stack:
        for module_name, module in model.named_modules():
            if isinstance(module, MultiHeadAttention):
                _record(module, block_name(module_name), found, stack)
        yield found


def _record(
    block: AttentionBlock, name: str, found: dict[str, list[Tensor]], stack: ExitStack
) -> None:
    # The model itself asks its blocks for weights only where it needs them.
    def request_weights(
        module: nn.Module, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "return_weights": True}

    def store_weights(module: nn.Module, args: Any, output: Any) -> None:
        found[name] = output[1]

    before = block.register_forward_pre_hook(request_weights, with_kwargs=True)
    after = block.register_forward_hook(store_weights)
    stack.callback(before.remove)
    stack.callback(after.remove)
