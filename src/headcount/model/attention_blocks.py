"""The attention blocks of a model by name.

A block is named by its site and its layer: ``encoder.0`` and ``decoder.0`` are self-attention,
``cross.0`` is the first decoder layer's attention to the document. A decoder-only model has
decoder blocks only. The additive attention of a recurrent model is ``cross.0``.
"""

from torch import nn

from headcount.model.additive_attention import AdditiveAttention
from headcount.model.attention import MultiHeadAttention

AttentionBlock = MultiHeadAttention | AdditiveAttention
SITES = ("encoder", "decoder", "cross")  # in the order of tables and pictures


def block_name(module_name: str) -> str:
    """Return the block's name for a module's name in a model.

    ``decoder.0.cross_attention`` is ``cross.0``, ``encoder.1.attention`` is ``encoder.1`` and a
    recurrent model's ``attention`` is ``cross.0``.
    """
    parts = module_name.split(".")
    if len(parts) == 1:
        return "cross.0"
    stack, layer, kind = parts
    return f"cross.{layer}" if kind == "cross_attention" else f"{stack}.{layer}"


def attention_blocks(model: nn.Module) -> dict[str, AttentionBlock]:
    """Return the attention blocks of a model by name: encoder, decoder, cross; first layer
    first."""
    found: dict[str, AttentionBlock] = {}
    for module_name, module in model.named_modules():
        if isinstance(module, AttentionBlock):
            found[block_name(module_name)] = module
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _order(name: str) -> tuple[int, int]:
    site, layer = name.split(".")
    return SITES.index(site), int(layer)
