import pytest
import torch

from headcount.config.load import load
from headcount.config.sections.heads import HeadsConfig
from headcount.errors import ConfigError
from headcount.model.attention_blocks import attention_blocks
from headcount.model.head_gates import (
    HardConcreteGates,
    LearnedGates,
    TopKGates,
    build_gates,
    close_heads,
)
from tests.model.builds import ARCHITECTURES, OUTPUTS, SMALL, batch, make

DRAWS = 20_000


def test_the_expected_number_of_open_gates_is_that_of_a_simulation() -> None:
    """Within four standard errors of the share of draws in which each gate is above zero."""
    gates = HardConcreteGates(5, 2)
    scores_A = torch.tensor([-3.0, -1.0, 0.0, 0.7, 2.5])
    torch.manual_seed(0)
    with torch.no_grad():
        gates.scores_A.copy_(scores_A)
        open_A = torch.stack([gates.sample() > 0 for _ in range(DRAWS)]).double().mean(0)
        expected_A = []
        for score in scores_A:
            single = HardConcreteGates(1, 1)
            single.scores_A.fill_(score)
            expected_A.append(single.expected_open())
        expected_A = torch.stack(expected_A).double()
    error_A = (expected_A * (1 - expected_A) / DRAWS).sqrt()
    assert ((open_A - expected_A).abs() < 4 * error_A).all()
    torch.testing.assert_close(gates.expected_open().double(), expected_A.sum())


def test_hard_concrete_gates_are_zero_one_and_between() -> None:
    gates = HardConcreteGates(DRAWS, 1)
    torch.manual_seed(0)
    with torch.no_grad():
        gates.scores_A.zero_()
        sample_A = gates.sample()
    assert sample_A.min() == 0 and sample_A.max() == 1
    assert 0.05 < ((sample_A > 0) & (sample_A < 1)).double().mean() < 0.95
    # The median of the distribution is on the side that is chosen outside of training.
    assert sample_A.median() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("keep", [1, 3, 8])
def test_exactly_k_gates_are_open(keep: int) -> None:
    gates = TopKGates(8, 2, keep)
    torch.manual_seed(0)
    with torch.no_grad():
        gates.scores_A.copy_(torch.randn(8))
        for _ in range(200):
            sample_A = gates.sample()
            assert set(sample_A.tolist()) <= {0.0, 1.0} and sample_A.sum() == keep
            assert gates._relaxed_subset(torch.randn(8)).sum() == pytest.approx(keep, abs=1e-4)
        gates.scores_A[6] = 9.0
        highest = gates.scores_A.topk(keep).indices
    assert gates.open_heads().sum() == keep and gates.open_heads()[highest].all()


def test_equal_scores_keep_k_gates_too() -> None:
    assert TopKGates(5, 2, 2).open_heads().tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("gates", [HardConcreteGates(5, 2), TopKGates(5, 2, 2)])
def test_one_head_of_the_last_block_stays_open(gates: LearnedGates) -> None:
    with torch.no_grad():
        gates.scores_A.copy_(torch.tensor([3.0, 2.0, 1.0, -2.0, -1.0]))
    found = gates.open_heads().tolist()
    assert found[3:] == [False, True] and found[0]
    if isinstance(gates, TopKGates):
        assert sum(found) == 2
        assert all(gates.sample()[3:].sum() >= 1 for _ in range(50))


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
@pytest.mark.parametrize("config", [HeadsConfig(gates="l0"), HeadsConfig(gates="top_k", keep=3)])
@pytest.mark.parametrize("output", OUTPUTS)
def test_gradients_reach_the_scores(
    output: list[str], config: HeadsConfig, architecture: str
) -> None:
    """Of every head in some of a few draws, and with the sign of the gate's own gradient."""
    model = make(architecture, *output)
    gates = build_gates(config, model)
    assert gates is not None
    torch.manual_seed(0)
    for _ in range(8):
        gates.set_gates(model, random=True)
        prediction = model(*batch())
        prediction.loss(torch.zeros(len(prediction.logits_MV), dtype=torch.long)).backward()
    gradient_A = gates.scores_A.grad
    assert gradient_A is not None and (gradient_A != 0).all()


def test_a_useful_head_is_learned() -> None:
    """Gates of heads that a loss needs stay open, those of others close."""
    wanted_A = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    for gates in (HardConcreteGates(6, 3), TopKGates(6, 3, 2)):
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(gates.parameters(), lr=0.1)
        for _ in range(150):
            loss = ((gates.sample() - 1) ** 2 * wanted_A).sum()
            if isinstance(gates, HardConcreteGates):
                loss = loss + 0.1 * gates.expected_open()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert gates.open_heads().tolist() == wanted_A.bool().tolist()


def test_gates_outside_of_training_are_zeros_and_ones_block_by_block() -> None:
    model = make("transformer")
    gates = build_gates(HeadsConfig(gates="l0"), model)
    assert gates is not None
    with torch.no_grad():
        gates.scores_A[5] = -1.0  # the second head of the second block
    gates.set_gates(model, random=False)
    found = {name: block.head_gates.tolist() for name, block in attention_blocks(model).items()}
    assert found.pop("encoder.1") == [1, 0, 1, 1]
    assert set(map(tuple, found.values())) == {(1, 1, 1, 1)}


def test_applied_gates_do_not_stay() -> None:
    model = make("transformer")
    gates = build_gates(HeadsConfig(gates="top_k", keep=2), model)
    assert gates is not None
    blocks = attention_blocks(model).values()
    with pytest.raises(RuntimeError), gates.applied(model, random=True):
        assert sum(block.head_gates.sum().item() for block in blocks) == 2
        raise RuntimeError
    assert all(block.head_gates is None for block in blocks)

    # A head that is off stays off.
    for block in blocks:
        block.head_gates = torch.zeros(4, dtype=torch.float64)
    with gates.applied(model, random=False):
        assert not any(block.head_gates.any() for block in blocks)


def test_heads_are_closed_by_name_beside_learned_gates() -> None:
    model = make("transformer")
    gates = build_gates(HeadsConfig(gates="l0"), model)
    assert gates is not None
    blocks = attention_blocks(model)
    close_heads(model, ["cross.1.0", "cross.1.3"])
    assert blocks["cross.1"].head_gates.tolist() == [0, 1, 1, 0]
    assert all(block.head_gates is None for name, block in blocks.items() if name != "cross.1")

    # What the scores have closed stays closed.
    with torch.no_grad():
        gates.scores_A[5] = -1.0  # the second head of the second block
    gates.set_gates(model, random=False)
    close_heads(model, ["encoder.1.3"])
    assert blocks["encoder.1"].head_gates.tolist() == [1, 0, 1, 0]


def test_no_gates_are_built_by_default() -> None:
    assert build_gates(HeadsConfig(), make("transformer")) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["heads.gates=top_k"], r"heads.keep=null does not go with .* 24 heads .* legal: 1 to 24"),
        (["heads.gates=top_k", "heads.keep=25"], r"heads.keep=25 does not go .* legal: 1 to 24"),
        (["heads.gates=l0", "heads.keep=3"], "heads.keep=3 does nothing with heads.gates=l0"),
        (["heads.gates=top_k", "heads.keep=0"], "heads.keep=0 is out of range"),
        (["heads.gates=hard"], "heads.gates: Invalid value 'hard'"),
    ],
)
def test_what_does_not_go_together_is_rejected(changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load([], [*SMALL, *changes])
    assert "\n" not in str(caught.value)
