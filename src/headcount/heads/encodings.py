"""What a model has computed of documents that it reads again and again, with other heads off.

The encoder's output depends on the documents and on the heads of the encoder. It is the same for
the loss and for the generated summaries of a measurement, and for all measurements that switch off
heads of the decoder only. So are the keys and values that cross-attention projects it to: a head
that is off changes what attention returns, and no projection.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

from torch import Tensor, nn

from headcount.heads.blocks import Model, site_of
from headcount.model.attention import MultiHeadAttention
from headcount.model.attention_blocks import AttentionBlock, attention_blocks
from headcount.model.ragged import BatchLayout

MAX_BYTES = 2**29

Values = Tensor | tuple[Tensor, ...]


class Encodings:
    """The encodings of documents by one model, with their keys and values for cross-attention.

    Copies of the model that share its weights, in other threads too, can use the same encodings.

    Args:
        max_bytes: values beyond this are forgotten, the least recently used ones first. The last
            one is always remembered.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._found: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = Lock()

    @contextmanager
    def used_by(self, model: Model) -> Iterator[None]:
        """Let a model take from here what was computed before, within a ``with`` statement.

        A decoder-only model has no encoder, so that nothing changes. Nor does it where outputs of
        the encoder's heads are edited, because an edit may draw random numbers.

        Args:
            model: in evaluation mode, with the weights of the other models that use these
                encodings. Its outputs are edited, if at all, before.
        """
        blocks = attention_blocks(model)
        of_encoder = [block for name, block in blocks.items() if site_of(name) == "encoder"]
        is_edited = any(block.edit_heads is not None for block in of_encoder)
        with ExitStack() as stack:
            if not model.is_decoder_only and not is_edited:
                _replace(model, "encode", self._remembering_encode(model, of_encoder), stack)
                for name, block in blocks.items():
                    if site_of(name) == "cross" and isinstance(block, MultiHeadAttention):
                        project = self._remembering_projection(block, name)
                        _replace(block, "project_memory", project, stack)
            yield

    def _remembering_encode(
        self, model: Model, of_encoder: list[AttentionBlock]
    ) -> Callable[[Tensor, BatchLayout], Values]:
        compute = model.encode

        def encode(document_ids_N: Tensor, layout: BatchLayout) -> Values:
            gates = tuple(_gates(block) for block in of_encoder)
            ids = document_ids_N.cpu().numpy().tobytes()
            key = (gates, tuple(layout.lengths), ids)
            encoded: Values = self._get(key, lambda: compute(document_ids_N, layout))
            return encoded

        return encode

    def _remembering_projection(
        self, block: MultiHeadAttention, name: str
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        compute = block.project_memory

        def project(memory_MD: Tensor) -> tuple[Tensor, Tensor]:
            # The encoding is kept with its keys and values: no other tensor can get its id.
            kept = self._get((name, id(memory_MD)), lambda: (*compute(memory_MD), memory_MD))
            return kept[:2]

        return project

    def _get(self, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        """Return the values of a key, computed unless they are remembered."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        values = compute()
        with self._lock:
            # Another thread may have computed the same in the meantime.
            if key not in self._found:
                self._found[key] = values
                self.bytes += _count_bytes(values)
            values = self._found[key]
            while self.bytes > self.max_bytes and len(self._found) > 1:
                _, oldest = self._found.popitem(last=False)
                self.bytes -= _count_bytes(oldest)
        return values


def _replace(
    module: nn.Module, method: str, function: Callable[..., Any], stack: ExitStack
) -> None:
    """Replace a method of one module until the stack is closed."""
    stack.callback(delattr, module, method)  # the method of the class appears again
    setattr(module, method, function)


def _gates(block: AttentionBlock) -> tuple[float, ...]:
    """Return the gates of a block's heads; without gates they are ones."""
    if block.head_gates is None:
        return (1.0,) * block.num_heads
    return tuple(block.head_gates.tolist())


def _count_bytes(values: Values) -> int:
    tensors = (values,) if isinstance(values, Tensor) else values
    return sum(tensor.nbytes for tensor in tensors)
