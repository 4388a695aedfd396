"""The keys of the section ``model`` that say which attention blocks there are and how many heads
each of them has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from headcount.config.section import Section, key, legal_divisors
from headcount.errors import ConfigError

Architecture = Literal["transformer", "gpt", "recurrent"]
Attention = Literal["dot_product", "query_key_norm", "additive"]

ATTENTION_SITES = {  # the attention sites of each architecture
    "transformer": ("encoder", "decoder", "cross"),
    "gpt": ("decoder",),
    "recurrent": ("cross",),
}
HEAD_NAME = re.compile(r"(?P<site>[a-z]+)\.(?P<layer>[0-9]{1,6})\.(?P<head>[0-9]{1,6})")


@dataclass(frozen=True, kw_only=True)
class AttentionKeys(Section):
    """The attention blocks of the summarizer.

    A block has a site, which is encoder, decoder or cross, and a layer from zero.
    """

    architecture: Architecture = key(
        "transformer", "encoder-decoder, decoder-only, or recurrent encoder-decoder"
    )
    attention: Attention = key("dot_product", "attention function; recurrent models use additive")
    embedding_size: int = key(
        256, "width of the embeddings and of the residual stream", at_least=1
    )
    num_heads: int = key(4, "number of heads of every attention block", at_least=1)
    encoder_heads: int | list[int] = key(
        "${model.num_heads}",
        "heads of the encoder's self-attention: one number, or a list with one for each layer",
        at_least=1,
    )
    decoder_heads: int | list[int] = key(
        "${model.num_heads}",
        "heads of the decoder's self-attention: one number, or a list",
        at_least=1,
    )
    cross_heads: int | list[int] = key(
        "${model.num_heads}",
        "heads of cross-attention, also of additive attention: one number, or a list",
        at_least=1,
    )
    head_dim: int | None = key(
        None, "width of each head; null: embedding_size / heads", at_least=1
    )
    num_kv_heads: int | None = key(
        None,
        "number of key-value heads, a divisor of the heads; null: one for each head",
        at_least=1,
    )
    encoder_kv_heads: int | list[int] | None = key(
        "${model.num_kv_heads}",
        "key-value heads of the encoder's self-attention: one number, or a list",
        at_least=1,
    )
    decoder_kv_heads: int | list[int] | None = key(
        "${model.num_kv_heads}",
        "key-value heads of the decoder's self-attention: one number, or a list",
        at_least=1,
    )
    cross_kv_heads: int | list[int] | None = key(
        "${model.num_kv_heads}",
        "key-value heads of cross-attention: one number, or a list",
        at_least=1,
    )
    head_mask: dict[str, Any] = key(
        {},
        "which of these heads remain of a pruned model, whose heads keep their width: for each "
        "site a list of 0 and 1 for each layer; headcount prune sets it",
    )
    encoder_layers: int = key(3, "number of encoder layers; gpt has none", at_least=0)
    decoder_layers: int = key(3, "number of decoder layers", at_least=1)

    def layers_of(self, site: str) -> int:
        """Return the number of attention blocks of a site."""
        if self.architecture == "recurrent":
            return 1
        return self.encoder_layers if site == "encoder" else self.decoder_layers

    def heads_of(self, site: str, layer: int) -> int:
        """Return the number of heads that a block is built with, before pruning."""
        heads: int | list[int] = getattr(self, f"{site}_heads")
        return heads[layer] if isinstance(heads, list) else heads

    def kv_heads_of(self, site: str, layer: int) -> int:
        """Return the number of key-value heads that a block is built with, before pruning."""
        kv_heads: int | list[int] | None = getattr(self, f"{site}_kv_heads")
        if kv_heads is None:
            return self.heads_of(site, layer)
        return kv_heads[layer] if isinstance(kv_heads, list) else kv_heads

    def head_dim_of(self, site: str, layer: int) -> int:
        """Return the width of the heads of a block."""
        return self.head_dim or self.embedding_size // self.heads_of(site, layer)

    def kept_heads(self, site: str, layer: int) -> list[int] | None:
        """Return which heads of a block remain, by their indices before pruning; None: all."""
        if site not in self.head_mask:
            return None
        return [index for index, kept in enumerate(self.head_mask[site][layer]) if kept]

    def heads_left(self, site: str, layer: int) -> int:
        """Return the number of heads of a block, after pruning."""
        kept = self.kept_heads(site, layer)
        return self.heads_of(site, layer) if kept is None else len(kept)

    def count_heads(self) -> int:
        """Return the number of heads of all attention blocks, after pruning."""
        heads = 0
        for site in ATTENTION_SITES[self.architecture]:
            layers = self.layers_of(site)
            if site in self.head_mask or self._has_list(site):
                heads += sum(self.heads_left(site, layer) for layer in range(layers))
            else:
                heads += layers * self.heads_of(site, 0)
        return heads

    def has_head(self, name: str) -> bool:
        """Return whether the model has a head of this name, such as ``cross.0.3``.

        A pruned model counts the heads that it has left.
        """
        match = HEAD_NAME.fullmatch(name)
        if match is None or match["site"] not in ATTENTION_SITES[self.architecture]:
            return False
        layer = int(match["layer"])
        if layer >= self.layers_of(match["site"]):
            return False
        return int(match["head"]) < self.heads_left(match["site"], layer)

    def _heads_key(self, site: str, layer: int) -> str:
        """Return the key that gives a block its heads, for messages."""
        return "num_heads" if self.heads_of(site, layer) == self.num_heads else f"{site}_heads"

    def _distinct_blocks(self) -> Iterator[tuple[str, int]]:
        """Yield site and layer of the blocks that may differ in their heads.

        The first layer stands for all layers of a site without a list, which may be millions.
        """
        for site in ATTENTION_SITES[self.architecture]:
            for layer in range(self.layers_of(site) if self._has_list(site) else 1):
                yield site, layer

    def _has_list(self, site: str) -> bool:
        """Return whether the heads of a site, before pruning, are given layer by layer."""
        values = (getattr(self, f"{site}_heads"), getattr(self, f"{site}_kv_heads"))
        return any(isinstance(value, list) for value in values)

    def _check_heads(self) -> None:
        """Check that lists of heads fit the layers, and the heads of each block its width."""
        for site in ATTENTION_SITES[self.architecture]:
            self._check_list(f"{site}_heads", site)
            self._check_list(f"{site}_kv_heads", site)
        for site, layer in self._distinct_blocks():
            self._check_block(site, layer)

    def _check_list(self, name: str, site: str) -> None:
        """Check that a list has a number from 1 for each layer of the site."""
        value = getattr(self, name)
        layers = self.layers_of(site)
        if isinstance(value, list) and (len(value) != layers or min(value) < 1):
            raise ConfigError(
                f"model.{name}={value} does not go with the number of {site} blocks, {layers}; "
                f"legal: one number from 1, or a list of {layers} of them"
            )

    def _check_block(self, site: str, layer: int) -> None:
        """Check that the heads of a block divide the width, and its key-value heads divide the
        heads."""
        heads = self.heads_of(site, layer)
        heads_key = self._heads_key(site, layer)
        if self.head_dim is None and self.embedding_size % heads:
            raise ConfigError(
                f"model.{heads_key}={heads} does not divide "
                f"model.embedding_size={self.embedding_size}; "
                f"legal: {legal_divisors(self.embedding_size)}, or any with a model.head_dim"
            )

        kv_heads = self.kv_heads_of(site, layer)
        kv_key = "num_kv_heads" if kv_heads == self.num_kv_heads else f"{site}_kv_heads"
        if heads % kv_heads:
            raise ConfigError(
                f"model.{kv_key}={kv_heads} does not divide model.{heads_key}={heads}; legal: "
                f"{legal_divisors(heads)}"
            )

    def _check_head_mask(self) -> None:
        """Check that the mask fits the heads and layers, and leaves what the model needs."""
        sites = ATTENTION_SITES[self.architecture]
        for site, mask in self.head_mask.items():
            name = f"model.head_mask.{site}"
            if site not in sites:
                raise ConfigError(f"{name}: no site of this model; legal: {', '.join(sites)}")
            if not self._fits(mask, site):
                raise ConfigError(
                    f"{name}={mask} does not fit the model; legal: {self.layers_of(site)} lists "
                    f"of {getattr(self, f'{site}_heads')} numbers, 0 or 1"
                )

        # Copying and plots use the last attention to the document.
        last = "cross" if "cross" in sites else "decoder"
        if last in self.head_mask and not any(self.head_mask[last][-1]):
            raise ConfigError(
                f"model.head_mask.{last}: no head is left in the last layer that attends to the "
                "document; legal: at least one"
            )

    def _fits(self, mask: Any, site: str) -> bool:
        """Return whether a mask has a row for each layer of a site, with 0 or 1 for each head."""
        if not isinstance(mask, list) or len(mask) != self.layers_of(site):
            return False
        for layer, row in enumerate(mask):
            if not isinstance(row, list) or len(row) != self.heads_of(site, layer):
                return False
            if not all(value in (0, 1) for value in row):
                return False
        return True
