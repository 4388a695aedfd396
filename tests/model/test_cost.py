"""The cost model against torch's own counter, on the real model."""

import itertools

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from headcount.config.load import load
from headcount.model.cost import cost, decoding_flops, forward_flops, longest_example_cost
from headcount.model.ragged import BatchLayout
from tests.model.builds import MULTI_HEAD, POSITIONS, VOCABULARY, ids, load_small, make

DOCUMENT, SUMMARY = 23, 9
TRANSFORMER_KINDS = [
    "num_heads=2",
    "activation=swiglu norm_position=post",
    "num_kv_heads=2 head_dim=6",
    "copying=true tie_embeddings=none",
]
KINDS = [
    *itertools.product(MULTI_HEAD, TRANSFORMER_KINDS),
    ("transformer", "encoder_heads=2 decoder_heads=8 cross_heads=1 cross_kv_heads=1"),
    ("transformer", "encoder_heads=[8,1] decoder_heads=[2,4] cross_heads=[4,1] head_dim=6"),
    ("transformer", "cross_heads=[8,4] cross_kv_heads=[2,4]"),
    *itertools.product(MULTI_HEAD, ["decoder_heads=[1,8]"]),
    (
        "transformer",
        "head_mask.cross=[[1,0,0,0],[0,1,1,1]] head_mask.encoder=[[0,0,0,0],[1,1,1,0]]",
    ),
    ("recurrent", "num_heads=1"),
    ("recurrent", "cell=lstm"),
    ("recurrent", "copying=true"),
    ("recurrent", "encoder_layers=1 decoder_layers=1"),
]


def count(work: object) -> int:
    slow = (
        sdpa_kernel(SDPBackend.MATH),
        torch.backends.mkldnn.flags(enabled=False),
    )  # no counter sees into the fused ones
    with FlopCounterMode(display=False) as counter, slow[0], slow[1]:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize(("architecture", "changes"), KINDS)
def test_agrees_with_torchs_counter(architecture: str, changes: str) -> None:
    model = make(architecture, *changes.split(), dtype=torch.float32)
    config = load_small(architecture, tuple(changes.split())).model
    example = (
        ids([DOCUMENT]),
        BatchLayout.from_lengths([DOCUMENT]),
        ids([SUMMARY]),
        BatchLayout.from_lengths([SUMMARY]),
    )
    expected = forward_flops(config, VOCABULARY, DOCUMENT, SUMMARY)
    assert count(lambda: model(*example)) == expected
    training = count(lambda: model(*example).loss(ids([SUMMARY])).backward())
    # a recurrent encoder's first state is a constant, which needs no gradient
    assert training == (
        pytest.approx(3 * expected, rel=0.003) if architecture == "recurrent" else 3 * expected
    )

    def write() -> None:
        with torch.inference_mode():
            state = model.start(
                ids([DOCUMENT]), BatchLayout.from_lengths([DOCUMENT]), capacity=SUMMARY
            )
            for token in ids([SUMMARY]):
                model.step(token.view(1, 1), state)

    model.eval()
    assert count(write) == decoding_flops(config, VOCABULARY, DOCUMENT, SUMMARY)
    found = cost(
        config,
        vocabulary_size=VOCABULARY,
        max_positions=POSITIONS,
        document_tokens=DOCUMENT,
        summary_tokens=SUMMARY,
    )
    assert found.parameters == sum(p.numel() for p in model.parameters())
    blocks = [m for name, m in model.named_modules() if name.endswith("attention")]
    assert sum(site.parameters for site in found.sites) == sum(
        p.numel() for m in blocks for p in m.parameters()
    )
    tables = {
        id(p): p
        for name, p in model.named_parameters()
        if "embedding" in name or name.startswith("output")
    }
    assert found.embedding_parameters == sum(p.numel() for p in tables.values())
    state = model.start(ids([DOCUMENT]), BatchLayout.from_lengths([DOCUMENT]), capacity=1)
    if architecture == "recurrent":
        kept = state.key_BHSK.numel() + state.value_BHSK.numel()
        assert found.cache_bytes_per_summary_token == 0
    else:
        caches = (*state.self_keys, *state.self_values)
        slots = caches[0].shape[2]
        written = sum(cache.numel() for cache in caches) // slots
        assert found.cache_bytes_per_summary_token == 4 * written
        crossing = sum(
            cache.numel() for cache in (*sum(state.cross_keys, []), *sum(state.cross_values, []))
        )
        kept = crossing or written * DOCUMENT
    assert found.cache_bytes_per_document_token == 4 * kept / DOCUMENT


def test_the_longest_example_is_that_of_the_data() -> None:
    config = load([], ["data.max_document_tokens=40", "data.max_summary_tokens=9"])
    assert longest_example_cost(config, 300) == cost(
        config.model, vocabulary_size=300, max_positions=40, document_tokens=40, summary_tokens=9
    )
