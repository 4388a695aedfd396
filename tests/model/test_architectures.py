"""What holds for every architecture with every kind of part.

The properties that make a summarizer one.
"""

import itertools

import pytest
import torch
from torch import Tensor

from headcount.config.sections.generation import GenerationConfig
from headcount.generation.generate import generate
from headcount.model.attention import MultiHeadAttention
from headcount.model.base import SummaryModel
from headcount.model.ragged import BatchLayout
from tests.model.builds import (
    ARCHITECTURES,
    DOCUMENTS,
    MULTI_HEAD,
    OUTPUTS,
    SUMMARIES,
    VOCABULARY,
    batch,
    ids,
    make,
)

POSITIONS = ["sinusoidal", "learned", "rotary", "alibi", "none"]
NORMS = ["layernorm", "rmsnorm"]
# Pairwise, not all: each kind of part meets each architecture and each output. All:
# test_every_combination.
PARTS = [
    *(f"positions={kind}" for kind in POSITIONS),
    "norm=rmsnorm norm_position=post",
    "norm_position=post activation=relu",
    "activation=swiglu tie_embeddings=none",
    "num_kv_heads=2",
    "attention=query_key_norm positions=rotary",
    "num_kv_heads=1 positions=rotary",
    "num_heads=1 decoder_layers=1",
    "head_dim=6 positions=alibi num_kv_heads=1",
]
KINDS = [
    *itertools.product(MULTI_HEAD, PARTS),
    ("transformer", "encoder_heads=2 decoder_heads=8 cross_heads=1"),
    ("transformer", "encoder_heads=[2,8] decoder_heads=[8,1] cross_heads=[1,4]"),
    ("transformer", "decoder_heads=[1,8] positions=alibi"),
    ("transformer", "encoder_kv_heads=1 cross_kv_heads=2 tie_embeddings=output"),
    ("recurrent", "cell=gru"),
    ("recurrent", "cell=lstm"),
    ("recurrent", "num_heads=1 tie_embeddings=output"),
]
ALL = [
    (name, *parts.split(), *output) for (name, parts), output in itertools.product(KINDS, OUTPUTS)
]
every = pytest.mark.parametrize("kind", ALL, ids=" ".join)


@every
def test_ragged_batch_equals_its_examples_alone(kind: tuple[str, ...]) -> None:
    """Neighbours change nothing.

    Loss and every gradient of a batch are those of its examples one at a time.
    """
    model = make(*kind)
    parameters = list(model.parameters())
    documents, document_layout, summaries, summary_layout = batch()
    targets = summaries.flip(0)
    loss = model(documents, document_layout, summaries, summary_layout).loss(targets) * len(
        targets
    )
    together = torch.autograd.grad(loss, parameters, allow_unused=True)
    alone = [torch.zeros_like(p) for p in parameters]
    total = 0.0
    for document, summary, target in zip(
        documents.split(DOCUMENTS),
        summaries.split(SUMMARIES),
        targets.split(SUMMARIES),
        strict=True,
    ):
        one = model(
            document,
            BatchLayout.from_lengths([len(document)]),
            summary,
            BatchLayout.from_lengths([len(summary)]),
        ).loss(target) * len(target)
        total += one.item()
        for gradient, part in zip(
            alone, torch.autograd.grad(one, parameters, allow_unused=True), strict=True
        ):
            gradient += 0 if part is None else part
    assert loss.item() == pytest.approx(total, rel=1e-12)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(
            torch.zeros_like(other) if one is None else one, other, rtol=0, atol=1e-10
        )


@every
def test_every_parameter_has_a_say(kind: tuple[str, ...]) -> None:
    model = make(*kind)
    documents, document_layout, summaries, summary_layout = batch()
    model(documents, document_layout, summaries, summary_layout).loss(summaries.flip(0)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("architecture", MULTI_HEAD)
@pytest.mark.parametrize("output", OUTPUTS)
def test_attention_dropout_acts_in_every_layer(output: list[str], architecture: str) -> None:
    """Also in the last one, whose weights an output may read."""
    model = make(architecture, *output, "decoder_layers=1", "attention_dropout=0.5")
    last = (
        model.decoder[0].cross_attention
        if architecture == "transformer"
        else model.decoder[0].attention
    )
    for module in model.modules():
        if isinstance(module, MultiHeadAttention) and module is not last:
            module.dropout = 0.0
    first, other = (model(*batch()).log_probabilities() for _ in range(2))
    assert not torch.allclose(first, other)


@every
def test_future_tokens_cannot_change_past_predictions(kind: tuple[str, ...]) -> None:
    model = make(*kind).eval()
    document, summary = ids([9]), ids([6], 2)
    changed = summary.clone()
    changed[4:] = (changed[4:] + 1) % VOCABULARY
    first, other = (
        model(
            document, BatchLayout.from_lengths([9]), text, BatchLayout.from_lengths([6])
        ).log_probabilities()
        for text in (summary, changed)
    )
    torch.testing.assert_close(first[:4], other[:4], rtol=0, atol=1e-12)
    assert not torch.allclose(first[4:], other[4:], atol=1e-4)


@every
def test_the_document_matters(kind: tuple[str, ...]) -> None:
    model, summary = make(*kind).eval(), ids([6], 2)
    first, other = (
        model(
            document, BatchLayout.from_lengths([9]), summary, BatchLayout.from_lengths([6])
        ).log_probabilities()
        for document in (ids([9]), (ids([9]) + 1) % VOCABULARY)
    )
    assert not torch.allclose(first, other, atol=1e-4)


@every
def test_cached_steps_equal_the_full_forward(kind: tuple[str, ...]) -> None:
    """Also after documents have left the batch."""
    model, lengths = make(*kind).eval(), [6, 6, 6]
    documents, layout, summaries, summary_layout = batch(DOCUMENTS[:3], lengths)
    full = model(documents, layout, summaries, summary_layout).log_probabilities().view(3, 6, -1)
    state, tokens = model.start(documents, layout, capacity=6), summaries.view(3, 6)
    for t in range(6):
        if t == 3:
            state.select(torch.tensor([0, 2]))
            full, tokens = full[[0, 2]], tokens[[0, 2]]
        logits = model.step(tokens[:, t, None], state)[:, 0]
        torch.testing.assert_close(logits.log_softmax(-1), full[:, t], rtol=0, atol=1e-10)


@every
def test_hypotheses_share_a_document_and_keep_their_own_past(kind: tuple[str, ...]) -> None:
    """Three hypotheses a document that branch at each step end where they would be if written
    alone."""
    model, width, draw = make(*kind).eval(), 3, torch.Generator().manual_seed(3)
    documents, layout, _, _ = batch()
    state = model.start(documents, layout, capacity=5, width=width)
    pasts: list[list[list[int]]] = [[[] for _ in range(width)] for _ in DOCUMENTS]
    for t in range(5):
        tokens = torch.randint(VOCABULARY, (len(DOCUMENTS), width), generator=draw)
        logits = model.step(tokens, state)
        for past, new in zip(pasts, tokens.tolist(), strict=True):
            for hypothesis, token in zip(past, new, strict=True):
                hypothesis.append(token)
        if t < 4:
            parents = torch.randint(width, (len(DOCUMENTS), width), generator=draw)
            state.reorder(parents)
            pasts = [
                [list(past[p]) for p in chosen]
                for past, chosen in zip(pasts, parents.tolist(), strict=True)
            ]
    for index, document in enumerate(documents.split(DOCUMENTS)):
        for w in range(width):
            text = torch.tensor(pasts[index][w])
            expected = model(
                document,
                BatchLayout.from_lengths([len(document)]),
                text,
                BatchLayout.from_lengths([5]),
            ).log_probabilities()[-1]
            found = logits[index, w].log_softmax(-1)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@every
def test_weights_are_countable(kind: tuple[str, ...]) -> None:
    """Where each head of each layer looks in each document, when asked; asking changes nothing."""
    model = make(*kind).eval()
    asked, plain = model(*batch(), return_weights=True), model(*batch())
    torch.testing.assert_close(
        asked.log_probabilities(), plain.log_probabilities(), rtol=0, atol=1e-12
    )
    assert plain.weights == []
    for layer in asked.weights:
        assert [w.shape[1:] for w in layer] == [
            (t, s) for t, s in zip(SUMMARIES, DOCUMENTS, strict=True)
        ]
        for w in layer:
            torch.testing.assert_close(w.sum(-1), torch.ones_like(w.sum(-1)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("output", OUTPUTS)
def test_greedy_decoding_equals_recomputing_everything(
    architecture: str, output: list[str]
) -> None:
    """Also when examples end at different steps and leave the batch."""
    model = make(architecture, *output, "tie_embeddings=none").eval()
    lengths = [*DOCUMENTS, 5, 9]
    documents, layout = ids(lengths), BatchLayout.from_lengths(lengths)
    endless = greedily(model, documents, layout, end_id=-1, max_tokens=12)
    end = max(
        range(1, VOCABULARY),
        key=lambda token: len({s.index(token) if token in s else -1 for s in endless}),
    )
    found = greedily(model, documents, layout, end_id=end, max_tokens=12)
    assert len({len(summary) for summary in found}) > 1
    for document, summary in zip(documents.split(lengths), found, strict=True):
        tokens = [0]
        while len(tokens) < 13:
            prediction = model(
                document,
                BatchLayout.from_lengths([len(document)]),
                torch.tensor(tokens),
                BatchLayout.from_lengths([len(tokens)]),
            )
            tokens.append(int(prediction.most_likely()[-1]))
            if tokens[-1] == end:
                break
        assert summary == [t for t in tokens[1:] if t != end]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("output", OUTPUTS)
def test_head_gates(output: list[str], architecture: str) -> None:
    """Gates of one change nothing, a closed one changes much, and a gate's gradient says what its
    head is worth."""
    model = make(architecture, *output).eval()
    attentions = [m for m in model.modules() if hasattr(m, "head_gates")]
    assert len(attentions) == {"transformer": 6, "gpt": 2, "recurrent": 1}[architecture]
    before = model(*batch()).log_probabilities()
    attentions[-1].head_gates = torch.ones(4, dtype=torch.float64, requires_grad=True)
    after = model(*batch()).log_probabilities()
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(after[:, 0].sum(), attentions[-1].head_gates)
    step = torch.tensor([0.0, 1e-3, 0.0, 0.0], dtype=torch.float64)
    attentions[-1].head_gates = torch.ones(4, dtype=torch.float64) + step
    moved = model(*batch()).log_probabilities()
    assert (moved - before)[:, 0].sum().item() / 1e-3 == pytest.approx(
        gradient[1].item(), rel=0.1, abs=2e-2
    )
    attentions[-1].head_gates = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    assert not torch.allclose(model(*batch()).log_probabilities(), before, atol=1e-3)
    state = model.start(ids(DOCUMENTS), BatchLayout.from_lengths(DOCUMENTS), capacity=2)
    assert model.step(torch.zeros(4, 1, dtype=torch.long), state).isfinite().all()


@pytest.mark.parametrize("architecture", MULTI_HEAD)
def test_a_closed_gate_is_a_head_that_says_nothing(architecture: str) -> None:
    model = make(architecture).eval()
    attention = [m for m in model.modules() if hasattr(m, "head_gates")][-1]
    attention.head_gates = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    closed = model(*batch()).log_probabilities()
    attention.head_gates = None
    with torch.no_grad():
        attention.output_projection.weight[:, 4:8] = 0.0
    torch.testing.assert_close(model(*batch()).log_probabilities(), closed, rtol=0, atol=1e-12)


def greedily(
    model: SummaryModel, documents: Tensor, layout: BatchLayout, *, end_id: int, max_tokens: int
) -> list[list[int]]:
    config = GenerationConfig(max_tokens=max_tokens)
    found = generate(model, documents, layout, config, start_id=0, end_id=end_id)
    return [best.tokens for [best] in found]


def overfits(kind: tuple[str, ...], steps: int, rate: float) -> bool:
    """Train on four pairs until they are known by heart.

    Say whether greedy decoding writes them.
    """
    model = make(*kind, dtype=torch.float32)
    torch.manual_seed(0)
    for module in model.modules():
        if module is not model and hasattr(module, "reset_parameters"):
            module.reset_parameters()
    documents, layout = ids(DOCUMENTS), BatchLayout.from_lengths(DOCUMENTS)
    texts = [
        [0, *text.tolist(), 1]
        for text in (ids(SUMMARIES, 5) % (VOCABULARY - 2) + 2).split(SUMMARIES)
    ]
    read = torch.tensor([token for text in texts for token in text[:-1]])
    targets = torch.tensor([token for text in texts for token in text[1:]])
    summary_layout = BatchLayout.from_lengths([len(text) - 1 for text in texts])
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(documents, layout, read, summary_layout).loss(targets)
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    written = greedily(model.eval(), documents, layout, end_id=1, max_tokens=10)
    return written == [text[1:-1] for text in texts]


@pytest.mark.parametrize("kind", ALL[::3], ids=" ".join)  # the outputs in turn
def test_overfits_one_batch(kind: tuple[str, ...]) -> None:
    assert overfits(kind, steps=150, rate=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("num_heads", [1, 2, 4, 8])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("architecture", MULTI_HEAD)
def test_every_combination_overfits(
    architecture: str,
    positions: str,
    norm_position: str,
    norm: str,
    output: list[str],
    num_heads: int,
) -> None:
    parts = (f"positions={positions}", f"norm={norm}", f"norm_position={norm_position}", *output)
    assert overfits((architecture, *parts, f"num_heads={num_heads}"), steps=300, rate=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("num_heads", [1, 2, 4, 8])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_every_recurrent_combination_overfits(
    cell: str, output: list[str], num_heads: int
) -> None:
    kind = ("recurrent", f"cell={cell}", *output, f"num_heads={num_heads}")
    assert overfits(kind, steps=300, rate=1e-2)
