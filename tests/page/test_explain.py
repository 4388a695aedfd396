import numpy as np
import pytest
import torch

from headcount.data.batches import Batch
from headcount.generation.hypothesis import Hypothesis
from headcount.model.output import ModelOutput
from headcount.model.ragged import BatchLayout
from headcount.page.explain import explain
from headcount.page.heads_off import generate_without
from headcount.page.maps import dequantize, pack, unpack
from headcount.training.decoding import encode_pairs
from headcount.training.module import Summarizer
from tests.model.builds import ARCHITECTURES, OUTPUTS


def predict(
    summarizer: Summarizer, batch: Batch, hypothesis: Hypothesis
) -> tuple[ModelOutput, list[int]]:
    """Ask the model directly: its output for a summary, and the summary's tokens."""
    end_id, start_id = (summarizer.token_ids[name] for name in ("</s>", "<s>"))
    written = hypothesis.generated(end_id)
    with torch.inference_mode():
        output = summarizer.model(
            batch.document_ids, BatchLayout.from_lengths(batch.document_lengths),
            torch.tensor([start_id, *written[:-1]]), BatchLayout.from_lengths([len(written)]),
            return_weights=True,
        )  # fmt: skip
    return output, written


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_is_shown_is_what_the_model_computes(
    make_run, architecture: str, kind: list[str]
) -> None:
    run, pairs = make_run(architecture, *(f"model.{change}" for change in kind))
    summarizer, encoded = run.summarizer, encode_pairs(run.summarizer, pairs)
    hypothesis = generate_without(summarizer, encoded)[0]
    batch = encoded.batch([0])
    found = explain(summarizer, batch, hypothesis)

    output, written = predict(summarizer, batch, hypothesis)
    assert len(found.written) == len(written)
    expected = torch.stack([layer[0] for layer in output.weights]).double().numpy()

    # Weights in the file, against return_weights: the rounding of the file and no more.
    begin = 0
    levels = unpack(pack(found.maps))
    cross = []
    for each in found.maps:
        stored = dequantize(levels[begin : begin + each.weights.size]).reshape(each.weights.shape)
        begin += each.weights.size
        assert (abs(stored - each.weights) <= np.sqrt(each.weights) / 255 + 8e-6).all()
        if each.site == "cross":
            cross.append(each.weights)
    assert begin == len(levels) and np.allclose(np.stack(cross), expected, atol=1e-6)
    if architecture != "recurrent":
        layers = {"transformer": (2, 2, 2), "gpt": (1, 2, 2)}[architecture]
        sites = [each.site for each in found.maps]
        assert tuple(sites.count(site) for site in ("encoder", "decoder", "cross")) == layers

    # Probabilities, alternatives and shares.
    probabilities = output.log_probabilities().exp()
    assert summarizer.text_of(hypothesis) == found.summary
    assert len(found.tokens) == batch.document_lengths[0] and found.tokens[-1] == "(end)"
    for index, token in enumerate(found.written):
        assert token.probability == pytest.approx(
            probabilities[index, written[index]].item(), abs=1e-4
        )
        assert len(token.alternatives) == 4
        values = [value for _, value in token.alternatives]
        assert values == sorted(values, reverse=True) and max(values) <= token.probability + 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_copied_share_of_a_token(make_run, architecture: str) -> None:
    """What is not generated of its probability; and none in a model that does not copy."""
    run, pairs = make_run(architecture, "model.copying=true")
    encoded = encode_pairs(run.summarizer, pairs)
    hypothesis = generate_without(run.summarizer, encoded)[0]
    found = explain(run.summarizer, encoded.batch([0]), hypothesis)
    output, written = predict(run.summarizer, encoded.batch([0]), hypothesis)

    generated_M = (1 - output.gate_M.sigmoid()) * output.logits_MV.softmax(-1)[
        torch.arange(len(written)), written
    ]
    probability_M = output.log_probabilities().exp()[torch.arange(len(written)), written]
    expected_M = 1 - generated_M / probability_M
    shares = [token.copied for token in found.written]
    assert shares == pytest.approx(expected_M.tolist(), abs=2e-3)

    run, pairs = make_run(architecture)
    encoded = encode_pairs(run.summarizer, pairs)
    found = explain(
        run.summarizer, encoded.batch([0]), generate_without(run.summarizer, encoded)[0]
    )
    assert {token.copied for token in found.written} == {None}


def test_a_long_document_is_stored_in_cells(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headcount.page.maps.SELF_ATTENTION_BYTES", 400)
    run, pairs = make_run()
    encoded = encode_pairs(run.summarizer, pairs)
    found = explain(
        run.summarizer, encoded.batch([0]), generate_without(run.summarizer, encoded)[0]
    )
    spans = {each.site: each.span for each in found.maps}
    assert spans["encoder"] > 1 and spans["cross"] == spans["decoder"] == 1
    encoder = next(each for each in found.maps if each.site == "encoder")
    assert encoder.weights.shape[1] * encoder.span >= len(found.tokens)
    assert np.allclose(encoder.weights.sum(-1), 1, atol=1e-5)


def test_a_summary_that_was_cut_has_no_end_token(one_run) -> None:
    summarizer, encoded = one_run
    hypotheses = generate_without(summarizer, encoded)
    for row, hypothesis in enumerate(hypotheses):
        found = explain(summarizer, encoded.batch([row]), hypothesis)
        assert found.finished == hypothesis.finished
        assert (found.written[-1].text == "(end)") == hypothesis.finished
