"""The recurrent encoder-decoder against the paper's equations, step by step, one example at a
time."""

import pytest
import torch
from torch.nn import functional as F

from headcount.model.ragged import BatchLayout
from headcount.model.recurrent import time_major_order
from tests.model.builds import DOCUMENTS, SUMMARIES, batch, make


@pytest.mark.parametrize("num_heads", [1, 4])
def test_equals_the_equations(num_heads: int) -> None:
    """h = BiGRU(x), s_0 = tanh(W h_1), c_t = attend(s_(t-1), h), s_t = GRU([y_(t-1).

    C_t], s_(t-1)).
    """
    model = make(
        "recurrent", f"num_heads={num_heads}", "encoder_layers=1", "decoder_layers=1"
    ).eval()
    documents, document_layout, summaries, summary_layout = batch()
    found = model(documents, document_layout, summaries, summary_layout).logits_MV
    embed = model.summary_embedding.tokens.weight * 4.0  # sqrt(16)
    expected = []
    for document, summary in zip(
        documents.split(DOCUMENTS), summaries.split(SUMMARIES), strict=True
    ):
        memory, last = model.encoder(embed[document][:, None])
        memory = memory[:, 0]
        state = torch.tanh(model.initial_state(last[1, 0]))
        for token in summary:
            query = model.attention.query_projection(state)
            match = torch.tanh(query + model.attention.key_projection(memory)).unflatten(
                1, (num_heads, -1)
            )
            weights = (match * model.attention.score_HK).sum(-1).softmax(0)
            context = (weights[..., None] * memory.unflatten(1, (num_heads, -1))).sum(0).flatten()
            state = model.decoder[0](torch.cat([embed[token], context])[None], state[None])[0]
            message = torch.tanh(model.readout(torch.cat([state, context, embed[token]])))
            expected.append(F.linear(message, model.output.weight))
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-10)


def test_time_major() -> None:
    layout = BatchLayout.from_lengths([2, 3, 1])
    assert time_major_order([1, 0, 2], layout).tolist() == [2, 0, 5, 3, 1, 4]


def test_nothing_is_padded_in_the_encoder() -> None:
    model = make("recurrent")
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].data.shape))
    model(*batch())
    assert seen == [(sum(DOCUMENTS), 16)]
