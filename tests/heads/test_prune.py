import itertools

import pytest
import torch

from headcount.config.load import load
from headcount.config.sections.model_attention import ATTENTION_SITES
from headcount.errors import ConfigError
from headcount.heads.blocks import Head, Model, gated, gates_without, heads_of
from headcount.heads.prune import heads_to_remove, prune
from headcount.model.attention import kept_kv_heads
from headcount.model.attention_blocks import attention_blocks
from headcount.model.build import build_model
from headcount.model.cost import cost
from headcount.model.ragged import BatchLayout
from tests.model.builds import (
    ARCHITECTURES,
    DOCUMENTS,
    OUTPUTS,
    POSITIONS,
    SMALL,
    VOCABULARY,
    batch,
    ids,
    make,
)

BUILDS = [
    *itertools.product(ARCHITECTURES, OUTPUTS),
    ("transformer", ["num_kv_heads=2", "positions=rotary"]),
    ("transformer", ["num_kv_heads=1", "positions=alibi"]),
    ("transformer", ["attention=query_key_norm", "norm_position=post"]),
    ("gpt", ["num_kv_heads=2", "positions=alibi"]),
    ("recurrent", ["cell=lstm", "decoder_layers=1"]),
]


def model_config(architecture: str, changes: list[str]):
    overrides = [*SMALL, *ARCHITECTURES[architecture], *(f"model.{each}" for each in changes)]
    return load([], overrides).model


def smaller(model: Model, architecture: str, changes: list[str], removed: set[Head]) -> Model:
    config, weights = prune(model, model_config(architecture, changes), removed)
    pruned = build_model(config, vocabulary_size=VOCABULARY, max_positions=POSITIONS).double()
    pruned.load_state_dict(weights)
    return pruned.eval()


def generated_logits(model: Model) -> list[torch.Tensor]:
    layout = BatchLayout.from_lengths(DOCUMENTS)
    state = model.start(ids(DOCUMENTS), layout, capacity=4)
    steps = torch.arange(3 * len(DOCUMENTS)).view(3, -1, 1) % VOCABULARY
    return [model.step(tokens, state) for tokens in steps]


@pytest.mark.parametrize(("architecture", "changes"), BUILDS)
def test_removal_equals_gating(architecture: str, changes: list[str]) -> None:
    """Of every block its first head, then all sorts of sets, in training and in generation."""
    model = make(architecture, *changes).eval()
    heads = heads_of(model)
    sets = [{head} for head in heads if head.index == 1]
    sets.append({head for number, head in enumerate(heads) if number % 3})
    sets.append({head for head in heads if head.index in (0, 3)})
    for removed in sets:
        with torch.no_grad():
            pruned = smaller(model, architecture, changes, removed)
            with gated(model, gates_without(model, removed)):
                expected = model(*batch()).log_probabilities()
                steps = generated_logits(model)
            found = pruned(*batch()).log_probabilities()
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
            for step, of_gated in zip(generated_logits(pruned), steps, strict=True):
                torch.testing.assert_close(step, of_gated, rtol=0, atol=1e-10)
        assert len(heads_of(pruned)) == len(heads) - len(removed)
        if "num_kv_heads=2" not in changes:  # heads that no longer share have more to store
            before = sum(parameter.numel() for parameter in model.parameters())
            assert sum(parameter.numel() for parameter in pruned.parameters()) < before


@pytest.mark.parametrize(
    ("architecture", "block"),
    [
        ("transformer", "encoder.0"),
        ("transformer", "decoder.1"),
        ("transformer", "cross.0"),
        ("gpt", "decoder.0"),
    ],
)
def test_a_layer_may_lose_all_its_heads(architecture: str, block: str) -> None:
    model = make(architecture).eval()
    removed = {head for head in heads_of(model) if head.block == block}
    pruned = smaller(model, architecture, [], removed)
    with torch.no_grad(), gated(model, gates_without(model, removed)):
        expected = model(*batch()).log_probabilities()
        torch.testing.assert_close(
            pruned(*batch()).log_probabilities(), expected, rtol=0, atol=1e-10
        )
        for step, of_gated in zip(generated_logits(pruned), generated_logits(model), strict=True):
            torch.testing.assert_close(step, of_gated, rtol=0, atol=1e-10)
    assert attention_blocks(pruned)[block].num_heads == 0
    output = pruned(*batch(), return_weights=True)
    assert output.logits_MV.isfinite().all()
    output.loss(torch.zeros(len(output.logits_MV), dtype=torch.long)).backward()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_last_attention_to_the_document_keeps_a_head(architecture: str) -> None:
    site = ATTENTION_SITES[architecture][-1]
    model = make(architecture)
    layer = max(head.layer for head in heads_of(model) if head.site == site)
    removed = {head for head in heads_of(model) if (head.site, head.layer) == (site, layer)}
    with pytest.raises(ConfigError, match=rf"model.head_mask.{site}: no head is left"):
        prune(model, model_config(architecture, []), removed)


def test_a_pruned_model_can_be_pruned_again() -> None:
    model = make("transformer").eval()
    first = {Head(site="cross", layer=0, index=1)}
    once_config, weights = prune(model, model_config("transformer", []), first)
    once = build_model(once_config, vocabulary_size=VOCABULARY, max_positions=POSITIONS).double()
    once.load_state_dict(weights)
    # Head 1 of what is left was head 2.
    twice_config, _ = prune(once, once_config, {Head(site="cross", layer=0, index=1)})
    assert twice_config.head_mask["cross"] == [[1, 0, 0, 1], [1, 1, 1, 1]]


def test_shared_key_value_heads() -> None:
    assert kept_kv_heads([0, 1, 2, 3], 2) == [0, 1]
    assert kept_kv_heads([0, 3], 2) == [0, 1]  # one head of each group
    assert kept_kv_heads([2, 3], 2) == [1]
    assert kept_kv_heads([0, 2, 3], 2) == [0, 1, 1]  # uneven: each head its own
    assert kept_kv_heads([], 2) == []


def test_an_unknown_head_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"does not have: encoder\.9\.0"):
        unknown = Head(site="encoder", layer=9, index=0)
        prune(make("transformer"), model_config("transformer", []), {unknown})


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_cost_of_a_pruned_model_is_counted(architecture: str) -> None:
    model = make(architecture)
    config = model_config(architecture, [])
    removed = {head for head in heads_of(model) if head.index == 0}
    pruned, weights = prune(model, config, removed)
    sizes = {"vocabulary_size": VOCABULARY, "max_positions": POSITIONS}
    tokens = {"document_tokens": 12, "summary_tokens": 6}
    found = cost(pruned, **sizes, **tokens)
    full = cost(config, **sizes, **tokens)
    for site, before in zip(found.sites, full.sites, strict=True):
        assert {block.num_heads for block in site.blocks} == {3}
        assert site.parameters < before.parameters
    assert found.parameters < full.parameters
    in_blocks = 0
    for name, tensor in weights.items():
        in_blocks += tensor.numel() if "attention" in name and "norm" not in name else 0
    assert sum(site.parameters for site in found.sites) == in_blocks


def test_a_mask_that_does_not_fit_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"model.head_mask.cross=.* legal: 2 lists of 4"):
        load([], [*SMALL, "model.head_mask={cross: [[1, 1, 1, 1]]}"])
    with pytest.raises(ConfigError, match="model.head_mask.cross: no site of this model"):
        load([], [*SMALL, *ARCHITECTURES["gpt"], "model.head_mask={cross: [[1]]}"])


def test_the_first_heads_of_an_order_go() -> None:
    heads = heads_of(make("transformer"))
    assert heads_to_remove(heads, len(heads) - 2) == set(heads[:2])
    assert heads_to_remove(heads, len(heads)) == set()
    # Closed heads go first, and none beside them if enough have gone.
    assert heads_to_remove(heads, len(heads) - 2, closed={heads[7], heads[3]}) == {
        heads[3],
        heads[7],
    }
    assert heads_to_remove(heads, len(heads) - 2, closed={heads[7]}) == {heads[0], heads[7]}
