"""Encodings of documents that a model reads again and again, with other heads switched off.

What the encoder returns depends on the documents and on the heads of the encoder. It is the same
for the loss and for the generated summaries of a measurement, and for all measurements that
switch off heads of the decoder only.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from torch import Tensor

from headcount.heads.blocks import Model, site_of
from headcount.model.attention_blocks import AttentionBlock, attention_blocks
from headcount.model.ragged import BatchLayout

MAX_BYTES = 2**28


class Encodings:
    """The encodings that one model has computed, the most recently used ones.

    Copies of the model that share its weights, in other threads too, can use the same encodings.

    Args:
        max_bytes: encodings beyond this are forgotten, the least recently used ones first. The
            last one is always remembered.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._found: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = Lock()

    @contextmanager
    def used_by(self, model: Model) -> Iterator[None]:
        """Let a model take its encodings from here within a ``with`` statement.

        Without an encoder nothing changes.

        Args:
            model: in evaluation mode, with the weights of the other models that use these
                encodings.
        """
        if model.is_decoder_only:
            yield
            return
        compute = model.encode
        blocks = []
        for name, block in attention_blocks(model).items():
            if site_of(name) == "encoder":
                blocks.append(block)

        def encode(document_ids_N: Tensor, layout: BatchLayout) -> Any:
            # An edit may draw random numbers, so its result is not remembered.
            if any(block.edit_heads is not None for block in blocks):
                return compute(document_ids_N, layout)

            gates = tuple(_gates(block) for block in blocks)
            ids = document_ids_N.cpu().numpy().tobytes()
            key = (gates, tuple(layout.lengths), ids)
            encoded = self._get(key)
            if encoded is None:
                encoded = compute(document_ids_N, layout)
                self._remember(key, encoded)
            return encoded

        model.encode = encode  # type: ignore[method-assign] # of this instance, for a while
        try:
            yield
        finally:
            del model.encode

    def _get(self, key: tuple[Any, ...]) -> Any | None:
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def _remember(self, key: tuple[Any, ...], encoded: Any) -> None:
        with self._lock:
            # Another thread may have been as fast.
            if key in self._found:
                return
            self._found[key] = encoded
            self.bytes += _count_bytes(encoded)
            while self.bytes > self.max_bytes and len(self._found) > 1:
                _, oldest = self._found.popitem(last=False)
                self.bytes -= _count_bytes(oldest)


def _gates(block: AttentionBlock) -> tuple[float, ...]:
    """Return the gates of a block's heads; without gates they are ones."""
    if block.head_gates is None:
        return (1.0,) * block.num_heads
    return tuple(block.head_gates.tolist())


def _count_bytes(encoded: Tensor | tuple[Tensor, ...]) -> int:
    tensors = [encoded] if isinstance(encoded, Tensor) else encoded
    return sum(tensor.nbytes for tensor in tensors)
