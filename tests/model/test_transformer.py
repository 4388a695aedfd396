import pytest
import torch
from torch.nn import functional as F

from headcount.model.attention import Rows
from headcount.model.transformer import Transformer, decode_greedily, sinusoids

DOCUMENTS, SUMMARIES = [7, 1, 12, 4], [3, 6, 1, 5]


def make(**changes: object) -> Transformer:
    torch.manual_seed(0)
    knobs = {
        "vocabulary_size": 30,
        "max_positions": 16,
        "embedding_size": 16,
        "num_heads": 4,
        "feedforward_size": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
    }
    return Transformer(**{**knobs, **changes}).double()  # type: ignore[arg-type]


def ids(lengths: list[int]) -> torch.Tensor:
    return torch.randint(30, (sum(lengths),), generator=torch.Generator().manual_seed(1))


VARIANTS = [{}, {"positions": "learned"}, {"tie_embeddings": False}, {"num_heads": 1}, {"embedding_size": 12}]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_ragged_batch_equals_its_examples_alone(changes: dict[str, object]) -> None:
    """Loss and every gradient of a batch are those of its examples one at a time."""
    model = make(**changes)
    documents, summaries, targets = ids(DOCUMENTS), ids(SUMMARIES), ids(SUMMARIES).flip(0)
    logits = model(documents, Rows.of(DOCUMENTS), summaries, Rows.of(SUMMARIES))
    loss = F.cross_entropy(logits, targets, reduction="sum")
    together = torch.autograd.grad(loss, list(model.parameters()))
    alone = [torch.zeros_like(g) for g in together]
    total = 0.0
    for document, summary, target in zip(
        documents.split(DOCUMENTS), summaries.split(SUMMARIES), targets.split(SUMMARIES), strict=True
    ):
        one = F.cross_entropy(
            model(document, Rows.of([len(document)]), summary, Rows.of([len(summary)])), target, reduction="sum"
        )
        total += one.item()
        for gradient, part in zip(alone, torch.autograd.grad(one, list(model.parameters())), strict=True):
            gradient += part
    assert loss.item() == pytest.approx(total, rel=1e-12)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_future_tokens_cannot_change_past_logits() -> None:
    model = make()
    document, summary = ids([9]), ids([6])
    changed = summary.clone()
    changed[4:] = (changed[4:] + 1) % 30
    logits, others = (model(document, Rows.of([9]), s, Rows.of([6])) for s in (summary, changed))
    torch.testing.assert_close(logits[:4], others[:4], rtol=0, atol=0)
    assert not torch.equal(logits[4:], others[4:])


def test_the_document_matters() -> None:
    model = make()
    summary = ids([6])
    first, second = (model(d, Rows.of([9]), summary, Rows.of([6])) for d in (ids([9]), ids([9]).flip(0)))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_cached_step_equals_full_forward(changes: dict[str, object]) -> None:
    model = make(**changes).eval()
    lengths = [6, 6, 6]
    documents, summaries = ids(DOCUMENTS[:3]), ids(lengths)
    full = model(documents, Rows.of(DOCUMENTS[:3]), summaries, Rows.of(lengths)).view(3, 6, -1)
    state = model.start(documents, Rows.of(DOCUMENTS[:3]), capacity=6)
    for t in range(6):
        logits = model.step(summaries.view(3, 6)[:, t], state)
        torch.testing.assert_close(logits, full[:, t], rtol=0, atol=1e-12)


def test_greedy_decoding_equals_recomputing_everything() -> None:
    """Also when examples end at different steps and leave the batch."""
    model = make(tie_embeddings=False).eval()
    documents = ids([*DOCUMENTS, 5, 9])
    rows = Rows.of([*DOCUMENTS, 5, 9])
    endless = decode_greedily(model, documents, rows, start_id=0, end_id=-1, max_tokens=12)
    end = max(range(1, 30), key=lambda token: len({s.index(token) if token in s else -1 for s in endless}))
    found = decode_greedily(model, documents, rows, start_id=0, end_id=end, max_tokens=12)
    assert len({len(summary) for summary in found}) > 2
    for document, summary in zip(documents.split(rows.lengths), found, strict=True):
        tokens = [0]
        while len(tokens) < 13:
            logits = model(document, Rows.of([len(document)]), torch.tensor(tokens), Rows.of([len(tokens)]))
            tokens.append(int(logits[-1].argmax()))
            if tokens[-1] == end:
                break
        assert summary == [t for t in tokens[1:] if t != end]


def test_cross_attention_weights_are_countable() -> None:
    model = make().eval()
    memory = model.encode(ids(DOCUMENTS), Rows.of(DOCUMENTS))
    hidden, weights = model.decode(memory, Rows.of(DOCUMENTS), ids(SUMMARIES), Rows.of(SUMMARIES), return_weights=True)
    plain, none = model.decode(memory, Rows.of(DOCUMENTS), ids(SUMMARIES), Rows.of(SUMMARIES))
    torch.testing.assert_close(hidden, plain, rtol=0, atol=1e-12)
    assert none == [] and len(weights) == 2
    for layer in weights:
        assert [tuple(w.shape) for w in layer] == [(4, t, s) for t, s in zip(SUMMARIES, DOCUMENTS, strict=True)]
        for w in layer:
            torch.testing.assert_close(w.sum(-1), torch.ones_like(w.sum(-1)))


def test_sinusoids_by_the_paper() -> None:
    table = sinusoids(9, 6)
    for position in range(9):
        for i in range(3):
            angle = torch.tensor(position / 10000 ** (2 * i / 6))
            torch.testing.assert_close(table[position, 2 * i], angle.sin())
            torch.testing.assert_close(table[position, 2 * i + 1], angle.cos())
    assert sinusoids(4, 5).shape == (4, 5)


def test_tied_embeddings_are_one_matrix() -> None:
    tied, untied = make(), make(tie_embeddings=False)
    assert tied.output.weight is tied.embedding.weight
    assert sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters()) == 30 * 16
