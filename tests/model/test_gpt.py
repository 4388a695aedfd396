"""The decoder-only form against Hugging Face's GPT-2 with the same weights."""

import pytest
import torch

from headcount.model.ragged import interleave
from tests.model.builds import DOCUMENTS, POSITIONS, SUMMARIES, VOCABULARY, batch, make

transformers = pytest.importorskip("transformers", reason="pip install headcount[parity]")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_gpt2(dtype: torch.dtype) -> None:
    """Logits on the summary and the gradient of every embedding, example by example."""
    model = make("gpt", "positions=learned", dtype=dtype).eval()
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=16, n_layer=2, n_head=4, n_inner=32, attn_pdrop=0.0,
        resid_pdrop=0.0, embd_pdrop=0.0, activation_function="gelu",
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).to(dtype).eval()
    embedding = model.summary_embedding
    with torch.no_grad():
        theirs.transformer.wte.weight.copy_(embedding.tokens.weight * embedding.scale)
        theirs.transformer.wpe.weight.copy_(embedding.places)
        theirs.transformer.ln_f.load_state_dict(model.decoder_norm.state_dict())
        for ours, block in zip(model.decoder, theirs.transformer.h, strict=True):
            block.ln_1.load_state_dict(ours.attention_norm.state_dict())
            block.ln_2.load_state_dict(ours.feedforward_norm.state_dict())
            pairs = [
                (block.attn.c_attn, ours.attention.input_projection),
                (block.attn.c_proj, ours.attention.output_projection),
                (block.mlp.c_fc, ours.feedforward.widen),
                (block.mlp.c_proj, ours.feedforward.narrow),
            ]
            for convolution, linear in pairs:  # GPT-2 keeps its weights the other way round
                convolution.weight.copy_(linear.weight.T)
                convolution.bias.copy_(linear.bias)
    documents, document_rows, summaries, summary_rows = batch()
    found = model(documents, document_rows, summaries, summary_rows).logits_MV
    texts, rows = interleave([(documents, document_rows), (summaries, summary_rows)])
    expected = torch.cat(
        [
            theirs(text[None]).logits[0, -length:] / embedding.scale
            for text, length in zip(texts.split(rows.lengths), SUMMARIES, strict=True)
        ]
    )
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-10}[dtype]
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    seed = torch.randn_like(found)
    (one,) = torch.autograd.grad(found, [embedding.places], seed)
    (other,) = torch.autograd.grad(expected, [theirs.transformer.wpe.weight], seed)
    torch.testing.assert_close(one, other, rtol=0, atol=10 * tolerance)
    assert len(DOCUMENTS) == len(rows.lengths)
