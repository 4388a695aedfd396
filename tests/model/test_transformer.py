"""The whole encoder-decoder against torch's own, weight for weight."""

import math

import pytest
import torch
from torch import Tensor, nn

from headcount.model.ragged import BatchLayout
from tests.model.builds import DOCUMENTS, MULTI_HEAD, SUMMARIES, VOCABULARY, batch, make


def torchs(model: nn.Module, *, norm_first: bool, activation: str) -> nn.Transformer:
    """A torch.nn.Transformer with the weights of ours."""
    sizes = {
        "d_model": 16,
        "nhead": 4,
        "dim_feedforward": 32,
        "dropout": 0.0,
        "activation": activation,
    }
    same = {"batch_first": True, "norm_first": norm_first}
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**sizes, **same),
        2,
        nn.LayerNorm(16) if norm_first else None,
        enable_nested_tensor=False,
    )
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(**sizes, **same), 2, nn.LayerNorm(16) if norm_first else None
    )
    theirs = nn.Transformer(
        **sizes, **same, custom_encoder=encoder, custom_decoder=decoder
    ).double()
    names = {
        "attention.input_projection.": "self_attn.in_proj_",
        "attention.output_projection.": "self_attn.out_proj.",
        "cross_attention.input_projection.": "multihead_attn.in_proj_",
        "cross_attention.output_projection.": "multihead_attn.out_proj.",
        "feedforward.up_projection.": "linear1.",
        "feedforward.down_projection.": "linear2.",
        "attention_norm.": "norm1.",
    }
    weights = {}
    for name, value in model.state_dict().items():
        part, _, rest = name.partition(".")
        if part in ("encoder", "decoder"):
            index, _, leaf = rest.partition(".")
            ours = leaf.rpartition(".")[0] + "."
            norms = {
                "cross_attention_norm.": "norm2.",
                "feedforward_norm.": "norm3." if part == "decoder" else "norm2.",
            }
            weights[
                f"{part}.layers.{index}.{ {**names, **norms}[ours] }{leaf.rpartition('.')[2]}"
            ] = value
        elif part in ("encoder_norm", "decoder_norm"):
            weights[f"{part[:7]}.norm.{rest}"] = value
    theirs.load_state_dict(weights)
    return theirs


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torchs_transformer(
    dtype: torch.dtype, norm_position: str, activation: str
) -> None:
    """Logits and the gradient of every embedding, from padded batches of theirs and ragged ones of
    ours."""
    model = make(
        "transformer", f"norm_position={norm_position}", f"activation={activation}"
    ).eval()
    theirs = (
        torchs(model, norm_first=norm_position == "pre", activation=activation).eval().to(dtype)
    )
    model = model.to(dtype)
    documents, document_layout, summaries, summary_layout = batch()
    table = model.summary_embedding.tokens.weight

    def embed(ids: Tensor, layout: BatchLayout) -> tuple[Tensor, Tensor]:
        places = model.summary_embedding.position_table[layout.positions]
        padded, real = layout.pad(table[ids] * math.sqrt(16) + places)
        return padded, real

    (source, source_real), (target, target_real) = (
        embed(documents, document_layout),
        embed(summaries, summary_layout),
    )
    hidden = theirs(
        source,
        target,
        tgt_mask=torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1),
        src_key_padding_mask=~source_real,
        tgt_key_padding_mask=~target_real,
        memory_key_padding_mask=~source_real,
    )
    expected = hidden[target_real] @ table.T
    found = model(documents, document_layout, summaries, summary_layout).logits_MV
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-10}[dtype]
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    seed = torch.randn_like(found)
    (one,), (other,) = (torch.autograd.grad(y, [table], seed) for y in (found, expected))
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert found.shape == (sum(SUMMARIES), VOCABULARY) and len(DOCUMENTS) == len(source)


@pytest.mark.parametrize(("tie", "matrices"), [("all", 1), ("output", 2), ("none", 3)])
def test_tied_embeddings_are_one_matrix(tie: str, matrices: int) -> None:
    model = make("transformer", f"tie_embeddings={tie}")
    tables = {
        id(w)
        for w in (
            model.document_embedding.tokens.weight,
            model.summary_embedding.tokens.weight,
            model.output.weight,
        )
    }
    assert len(tables) == matrices
    assert (model.output.weight is model.summary_embedding.tokens.weight) == (tie != "none")


@pytest.mark.parametrize("architecture", MULTI_HEAD)
def test_stochastic_depth(architecture: str) -> None:
    """Each block is skipped by whole examples; others are scaled, and generation skips none."""
    model = make(architecture, "layer_dropout=0.25").eval()
    plain = make(architecture).eval()
    inputs = batch()
    assert torch.equal(model(*inputs).logits_MV, plain(*inputs).logits_MV)

    # One layer of many examples, against the output of its blocks one by one.
    layer = model.decoder[0].train()
    layout = BatchLayout.from_lengths([3, 1, 2] * 400)
    output_ND = torch.randn(layout.num_tokens, 16, dtype=torch.float64)
    torch.manual_seed(0)
    changed_ND = layer._skip_examples(output_ND, layout)
    shares = []
    for before_TD, after_TD in zip(
        output_ND.split(layout.lengths), changed_ND.split(layout.lengths), strict=True
    ):
        is_kept = bool(after_TD.any())
        torch.testing.assert_close(after_TD, before_TD / 0.75 if is_kept else before_TD * 0)
        shares.append(is_kept)
    assert sum(shares) / len(shares) == pytest.approx(0.75, abs=0.04)

    # All blocks of a layer do so.
    layer.layer_dropout = 1 - 1e-9
    x_ND = torch.randn(7, 16, dtype=torch.float64)
    alone = BatchLayout.from_lengths([3, 4])
    memory = (x_ND, alone) if architecture == "transformer" else None
    assert torch.equal(layer(x_ND, alone, memory=memory)[0], x_ND)
    assert not torch.equal(layer.eval()(x_ND, alone, memory=memory)[0], x_ND)
