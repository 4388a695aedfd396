import pytest
import torch

from headcount.model.copying import CopyOutput, mixture, next_token_mixture
from tests.model.builds import ARCHITECTURES, SUMMARIES, VOCABULARY, batch, ids, make


def dense_reference(prediction: CopyOutput) -> torch.Tensor:
    """The mixture as it is written, with a tensor that has target, source and vocabulary at once."""
    layout, first = [], 0
    for pointer_TS, document in zip(prediction.pointers, prediction.document_ids, strict=True):
        for t in range(len(pointer_TS)):
            copy_gate = torch.sigmoid(prediction.gate_M[first + t])
            generated = prediction.logits_MV[first + t].softmax(-1)
            one_hot_SV = torch.nn.functional.one_hot(document, VOCABULARY).to(pointer_TS.dtype)
            layout.append(
                (1 - copy_gate) * generated
                + copy_gate * (pointer_TS[t, :, None] * one_hot_SV).sum(0)
            )
        first += len(pointer_TS)
    return torch.stack(layout)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_distribution_sums_to_one_and_equals_a_dense_one(architecture: str) -> None:
    model = make(architecture, "copying=true").eval()
    prediction = model(*batch())
    found = prediction.log_probabilities().exp()
    torch.testing.assert_close(found.sum(-1), torch.ones_like(found[:, 0]), rtol=0, atol=1e-12)
    torch.testing.assert_close(found, dense_reference(prediction), rtol=0, atol=1e-12)
    targets = ids(SUMMARIES, 4)
    expected = -dense_reference(prediction).log().gather(1, targets[:, None]).mean()
    assert prediction.loss(targets).item() == pytest.approx(expected.item(), rel=1e-10)
    assert torch.equal(prediction.most_likely(), dense_reference(prediction).argmax(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_shared", [True, False])
def test_generation_mixes_bit_for_bit(is_shared: bool, dtype: torch.dtype) -> None:
    """Also with gates that are shut, and tokens that occur several times; but for log-probabilities
    that no search ever chooses."""
    torch.manual_seed(0)
    logits = (torch.randn(40, 90) * 6).to(dtype)
    gates = torch.linspace(-30, 30, 40).to(dtype)
    pointers = torch.rand(40, 25).mul(9).softmax(-1).to(dtype)
    documents = torch.randint(0, 50, (25,) if is_shared else (40, 25))
    assert len(documents.flatten()[:25].unique()) < 25
    expected = mixture(logits, gates, pointers, documents)
    found = next_token_mixture(logits, gates, pointers, documents)
    is_probable = expected > -25
    assert 0.2 < is_probable.float().mean() < 0.9
    assert torch.equal(found[is_probable], expected[is_probable])
    assert (found[~is_probable] <= expected[~is_probable]).all()


def test_gradient_is_finite_where_a_target_is_not_in_the_document() -> None:
    model = make("transformer", "copying=true")
    prediction = model(*batch())
    absent = [
        min(set(range(VOCABULARY)) - set(document.tolist()))
        for document in prediction.document_ids
    ]
    targets = torch.tensor(absent).repeat_interleave(torch.tensor(SUMMARIES))
    gradients = torch.autograd.grad(
        prediction.loss(targets), list(model.parameters()), allow_unused=True
    )
    assert all(g is None or g.isfinite().all() for g in gradients)
    generated = (
        prediction.logits_MV.log_softmax(-1)
        + torch.nn.functional.logsigmoid(-prediction.gate_M)[:, None]
    )
    expected = -generated.gather(1, targets[:, None]).mean().item()
    assert prediction.loss(targets).item() == pytest.approx(expected, rel=1e-5)


def test_coverage_loss_with_a_loop() -> None:
    """See et al. 2017, equations 10-13: what was looked at before is looked at again."""
    prediction = make("transformer", "copying=true")(*batch())
    total = 0.0
    for pointer_TS in prediction.pointers:
        covered = [0.0] * pointer_TS.shape[1]
        for row in pointer_TS.tolist():
            total += sum(min(a, c) for a, c in zip(row, covered, strict=True))
            covered = [a + c for a, c in zip(row, covered, strict=True)]
    assert prediction.coverage_loss().item() == pytest.approx(total / sum(SUMMARIES), rel=1e-6)


def test_a_document_says_a_token_twice() -> None:
    logits, gate = torch.zeros(1, 4), torch.tensor([50.0])  # copies, whatever happens
    found = mixture(logits, gate, torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([2, 1, 2])).exp()
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.5, 0.5, 0.0]]), rtol=0, atol=1e-6)


def test_nothing_dense_is_built() -> None:
    """No tensor of a training step has targets, sources and vocabulary at once.

    None is near one example's product.
    """
    model = make("transformer", "copying=true", dtype=torch.float32)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    documents, summaries = [40, 38], [20, 20]
    with Watch():
        model(*batch(documents, summaries)).loss(ids(summaries)).backward()
    assert 40 * VOCABULARY <= largest < 20 * 40 * VOCABULARY / 4
