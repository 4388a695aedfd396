"""Writing summaries with a trained model.

Shapes are suffixes of names: B documents, N document tokens of all of them.
"""

import torch
from torch import Tensor

from headcount.model.base import SummaryModel
from headcount.model.ragged import Rows


@torch.inference_mode()
def decode_greedily(
    model: SummaryModel, document_ids_N: Tensor, rows: Rows, *, start_id: int, end_id: int, max_tokens: int
) -> list[list[int]]:
    """Write a summary for each document, always with the likeliest token.

    Args:
        model: in evaluation mode.
        document_ids_N: the documents, end to end.
        rows: where they begin and end.
        start_id: token that every summary starts from.
        end_id: token that ends a summary.
        max_tokens: longest summary, the end token included.

    Returns:
        For each document the tokens of its summary, without start and end token.
    """
    state = model.start(document_ids_N, rows, capacity=max_tokens)
    summaries: list[list[int]] = [[] for _ in rows.lengths]
    active = list(range(len(summaries)))
    token_ids_B = torch.full((len(active),), start_id, device=document_ids_N.device)
    for _ in range(max_tokens):
        token_ids_B = model.step(token_ids_B[:, None], state)[:, 0].argmax(-1)
        tokens = token_ids_B.tolist()
        going = [row for row, token in enumerate(tokens) if token != end_id]
        for row in going:
            summaries[active[row]].append(tokens[row])
        if not going:
            break
        if len(going) < len(active):
            kept = torch.tensor(going, device=token_ids_B.device)
            state.keep(kept)
            token_ids_B, active = token_ids_B[kept], [active[row] for row in going]
    return summaries
