"""Attention maps as a file of arrays (``.npz``), for other programs.

``numpy.load`` reads it without pickle. For each attention block, such as ``cross.0``, it holds

- ``cross.0``: the weights, float32 [heads, queries, keys]
- ``cross.0/queries`` and ``cross.0/keys``: the tokens as text
- ``cross.0/next``: the token that follows each query as text; not in the encoder
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headcount.heads.attention_maps import AttentionMap, Ids
from headcount.runs.files import replacing


def save_maps(maps: Sequence[AttentionMap], token_name: Callable[[int], str], path: Path) -> None:
    """Write attention maps completely or not at all.

    Args:
        maps: of one document.
        token_name: returns the text of a token.
        path: the file.

    Raises:
        RunError: it cannot be written.
    """

    def names(ids: Ids) -> NDArray[np.str_]:
        return np.array([token_name(token) for token in ids.tolist()], dtype=np.str_)

    arrays: dict[str, NDArray] = {}
    for each in maps:
        arrays[each.block] = each.weights.astype(np.float32)
        arrays[f"{each.block}/queries"] = names(each.query_ids)
        arrays[f"{each.block}/keys"] = names(each.key_ids)
        if each.next_ids is not None:
            arrays[f"{each.block}/next"] = names(each.next_ids)

    with replacing(path) as file:
        # Arrays of numbers and texts only, so that no reader needs pickle.
        np.savez_compressed(file, allow_pickle=False, **arrays)
