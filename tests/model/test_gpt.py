"""The decoder-only form against Hugging Face's GPT-2 with the same weights."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from headcount.config.sections.generation import GenerationConfig
from headcount.generation.constraints import build_constraints
from headcount.generation.generate import generate
from headcount.model.gpt import GPT
from headcount.model.ragged import BatchLayout, interleave
from tests.model.builds import POSITIONS, SUMMARIES, VOCABULARY, batch, ids, make

transformers = pytest.importorskip("transformers", reason="pip install headcount[parity]")


def gpt2(model: GPT, dtype: torch.dtype) -> torch.nn.Module:
    """Return Hugging Face's model with the weights of ours; its logits are ours, too."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=16, n_layer=2, n_head=4, n_inner=32, attn_pdrop=0.0,
        resid_pdrop=0.0, embd_pdrop=0.0, activation_function="gelu", tie_word_embeddings=False,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).to(dtype).eval()
    embedding = model.summary_embedding
    with torch.no_grad():
        theirs.transformer.wte.weight.copy_(embedding.tokens.weight * embedding.scale)
        theirs.transformer.wpe.weight.copy_(embedding.position_table)
        theirs.lm_head.weight.copy_(model.output.weight)
        theirs.transformer.ln_f.load_state_dict(model.decoder_norm.state_dict())
        for ours, block in zip(model.decoder, theirs.transformer.h, strict=True):
            block.ln_1.load_state_dict(ours.attention_norm.state_dict())
            block.ln_2.load_state_dict(ours.feedforward_norm.state_dict())
            pairs = [
                (block.attn.c_attn, ours.attention.input_projection),
                (block.attn.c_proj, ours.attention.output_projection),
                (block.mlp.c_fc, ours.feedforward.up_projection),
                (block.mlp.c_proj, ours.feedforward.down_projection),
            ]
            for convolution, linear in pairs:  # GPT-2 keeps its weights the other way round
                convolution.weight.copy_(linear.weight.T)
                convolution.bias.copy_(linear.bias)
    return theirs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_gpt2(dtype: torch.dtype) -> None:
    """Logits on the summary and the gradient of every place, example by example."""
    model = make("gpt", "positions=learned", dtype=dtype).eval()
    theirs = gpt2(model, dtype)
    documents, document_layout, summaries, summary_layout = batch()
    found = model(documents, document_layout, summaries, summary_layout).logits_MV
    texts, layout = interleave([(documents, document_layout), (summaries, summary_layout)])
    parts = zip(texts.split(layout.lengths), SUMMARIES, strict=True)
    expected = torch.cat([theirs(text[None]).logits[0, -length:] for text, length in parts])
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-10}[dtype]
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    seed = torch.randn_like(found)
    (one,) = torch.autograd.grad(found, [model.summary_embedding.position_table], seed)
    (other,) = torch.autograd.grad(expected, [theirs.transformer.wpe.weight], seed)
    torch.testing.assert_close(one, other, rtol=0, atol=10 * tolerance)


RULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({}, {}),
    "beam": ({"num_beams": 4}, {"num_beams": 4}),
    "beam, sum": (
        {"num_beams": 4, "length_penalty": "none"},
        {"num_beams": 4, "length_penalty": 0.0},
    ),
    "beam, long": (
        {"num_beams": 3, "length_penalty_alpha": 2.0},
        {"num_beams": 3, "length_penalty": 2.0},
    ),
    "min_tokens": ({"num_beams": 4, "min_tokens": 6}, {"num_beams": 4, "min_new_tokens": 5}),
    "no bigram": (
        {"num_beams": 4, "no_repeat_ngram_size": 2},
        {"num_beams": 4, "no_repeat_ngram_size": 2},
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_equals_their_generate(rule: str) -> None:
    """Token for token where the definitions agree: average length penalty, and a search that never
    stops too early.

    Where they do not: their n-gram rule counts the document of a decoder-only model, too, so here
    that is empty; their repetition penalty likewise, and in greedy search it works on logits; wu
    and coverage penalties they have not.
    """
    model = make("gpt", "positions=learned").eval()
    torch.nn.init.normal_(model.output.weight, generator=torch.Generator().manual_seed(2))
    theirs = gpt2(model, torch.float64)
    ours, settings = RULES[rule]
    strategy = "greedy" if rule == "greedy" else "beam"
    config = GenerationConfig(
        **{"strategy": strategy, "max_tokens": 12, "length_penalty": "average", **ours}
    )
    ended = 0
    for seed in range(20):
        document = ids([9], seed)
        if "no_repeat_ngram_size" in settings:
            document = document[:0]
        joined = torch.cat([document, torch.tensor([0])])
        if not len(document):  # our documents are never empty; one token of it stands in
            document, joined = torch.tensor([seed]), torch.tensor([seed, 0])
        layout = BatchLayout.from_lengths([len(document)])
        endless = replace(config, strategy="greedy")
        [[longest]] = generate(model, document, layout, endless, start_id=0, end_id=-1)
        end = longest.tokens[4]  # a token that the model does come to
        constraints = build_constraints(config, end_id=end)
        [[found]] = generate(
            model, document, layout, config, start_id=0, end_id=end, constraints=constraints
        )
        expected = theirs.generate(
            joined[None], max_new_tokens=12, eos_token_id=end, pad_token_id=end, do_sample=False, early_stopping="never"
            if "num_beams" in settings else False, **settings,
        )  # fmt: skip
        text = expected[0, len(joined) :].tolist()
        assert found.tokens == (text[: text.index(end)] if end in text else text)
        ended += found.finished
    assert ended > 3
