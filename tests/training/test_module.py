from collections.abc import Sequence

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.errors import ConfigError
from headcount.evaluation.rouge import Rouge
from headcount.generation.hypothesis import Hypothesis
from headcount.model.attention_blocks import attention_blocks
from headcount.model.ragged import BatchLayout
from headcount.training.data_module import SummarizationDataModule
from headcount.training.module import Summarizer, token_accuracy
from tests.model.builds import OUTPUTS


def built(small, *overrides: str) -> tuple[Summarizer, SummarizationDataModule]:
    config = small(*overrides)
    data = SummarizationDataModule(config)
    data.setup()
    pl.seed_everything(0, verbose=False)
    summarizer = Summarizer(config, data.tokenizer)
    summarizer.configure_model()
    return summarizer, data


def test_one_batch_overfits_to_its_exact_summaries(small) -> None:
    summarizer, data = built(small, "model.dropout=0")
    pairs = data.splits["train"].pairs
    batch = data.splits["train"].batch(range(12))
    optimizer = torch.optim.AdamW(summarizer.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        prediction, targets = summarizer.forward_batch(batch)
        loss = prediction.loss(targets)
        loss.backward()
        optimizer.step()
    assert loss < 0.02 and token_accuracy(prediction, targets) == 1
    summarizer.eval()
    assert summarizer.generate_texts(batch) == [pairs.references[i][0] for i in range(12)]


def test_loss_is_over_real_targets(small) -> None:
    """Each token of each summary is predicted from those before it, by hand and one at a time."""
    summarizer, data = built(small)
    summarizer.eval()
    batch = data.splits["train"].batch([4, 9, 2])
    prediction, targets = summarizer.forward_batch(batch)
    loss, accuracy = prediction.loss(targets), token_accuracy(prediction, targets)
    losses, right = [], []
    for document, summary in zip(
        batch.document_ids.split(batch.document_lengths),
        batch.summary_ids.split(batch.summary_lengths),
        strict=True,
    ):
        for t in range(1, len(summary)):
            logits = summarizer.model(
                document,
                BatchLayout.from_lengths([len(document)]),
                summary[:t],
                BatchLayout.from_lengths([t]),
            ).logits_MV[-1]
            losses.append(-logits.log_softmax(-1)[summary[t]].item())
            right.append(float(logits.argmax() == summary[t]))
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert accuracy.item() == pytest.approx(sum(right) / len(right))


def test_label_smoothing_is_spread_over_the_vocabulary(small) -> None:
    summarizer, data = built(small)
    summarizer.eval()
    batch = data.splits["train"].batch([0, 1])
    prediction, targets = summarizer.forward_batch(batch)
    plain, smooth = (prediction.loss(targets, label_smoothing=s).item() for s in (0.0, 0.5))
    assert smooth != pytest.approx(plain, rel=1e-3)


def test_coverage_is_a_part_of_the_loss(small) -> None:
    """Logged beside the loss it is added to."""
    summarizer, data = built(
        small, "model.copying=true", "model.coverage=2.0", "optimizer.label_smoothing=0"
    )
    logged: dict[str, torch.Tensor] = {}
    summarizer.log_dict = lambda figures, batch_size: logged.update(figures)
    summarizer.is_logging_step = lambda: True
    summarizer.eval()
    total = summarizer.training_step(data.splits["train"].batch([4, 9, 2]), 0)
    assert logged["train/coverage_loss"] > 0 and "train/token_accuracy" in logged
    torch.testing.assert_close(total, logged["train/loss"] + 2.0 * logged["train/coverage_loss"])


@pytest.mark.parametrize("kind", OUTPUTS)
def test_r_drop(small, kind: list[str]) -> None:
    """The mean of two passes and their divergence: by hand, from equal random numbers."""
    changes = ["model.dropout=0.3", "optimizer.label_smoothing=0.1", "optimizer.r_drop=3.0"]
    summarizer, data = built(small, *(f"model.{change}" for change in kind), *changes)
    logged: dict[str, torch.Tensor] = {}
    summarizer.log_dict = lambda figures, batch_size: logged.update(figures)
    summarizer.is_logging_step = lambda: False
    summarizer.train()
    batch = data.splits["train"].batch([4, 9, 2])
    torch.manual_seed(0)
    total = summarizer.training_step(batch, 0)

    torch.manual_seed(0)
    outputs, losses, log_probabilities = [], [], []
    for _ in range(2):
        output, targets = summarizer.forward_batch(batch)
        outputs.append(output)
        losses.append(output.loss(targets, label_smoothing=0.1))
        log_probabilities.append(output.log_probabilities())
    p, q = log_probabilities
    divergences = [
        torch.nn.functional.kl_div(a, b, log_target=True, reduction="batchmean")
        for a, b in ((p, q), (q, p))
    ]
    divergence = sum(divergences) / 2
    assert divergence > 0.001
    torch.testing.assert_close(logged["train/divergence"], divergence)
    torch.testing.assert_close(total, sum(losses) / 2 + 3.0 * divergence / 2)
    torch.testing.assert_close(outputs[0].divergence(outputs[0]), torch.tensor(0.0))
    total.backward()
    assert all(p.grad.isfinite().all() for p in summarizer.parameters())
    with pytest.raises(ConfigError, match="^(command line: )?optimizer.r_drop=1.0 does nothing"):
        small("optimizer.r_drop=1", "model.dropout=0")


def test_weight_decay_is_on_matrices_alone(small) -> None:
    summarizer, data = built(small, "optimizer.weight_decay=0.3")
    trainer = pl.Trainer(
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    trainer.fit(summarizer, data)
    groups = trainer.optimizers[0].param_groups
    assert {p.ndim for p in groups[0]["params"]} == {2} and groups[0]["weight_decay"] == 0.3
    assert {p.ndim for p in groups[1]["params"]} == {1} and groups[1]["weight_decay"] == 0
    assert sum(len(g["params"]) for g in groups) == len(list(summarizer.parameters()))


@pytest.mark.pictures
def test_draw_where_a_summary_is_cut(small) -> None:
    """It has as many layout as tokens, and reads no place beyond those that the model knows."""
    lengths = [
        "data.max_document_tokens=20",
        "data.max_summary_tokens=20",
        "generation.min_tokens=20",
    ]
    summarizer, data = built(small, *lengths)
    summarizer.eval()
    panel = summarizer.plot_attention(data.splits["test"].shortest()).axes[0]
    assert panel.images[0].get_array().shape[0] == 20
    assert len(panel.get_yticklabels()) == 20


@pytest.mark.pictures
def test_draw_shows_what_each_head_of_the_last_layer_attends_to(small) -> None:
    summarizer, data = built(small, "model.num_heads=4")
    summarizer.eval()
    batch = data.splits["test"].shortest()
    panels = [axes for axes in summarizer.plot_attention(batch).axes if axes.get_title(loc="left")]
    assert len(panels) == 4
    best = summarizer.generate(batch)[0][0]
    for panel in panels:
        weights = torch.as_tensor(panel.images[0].get_array())
        assert weights.shape == (len(best.tokens) + best.finished, batch.document_lengths[0])
        torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)))
    labels = [label.get_text() for label in panels[-1].get_xticklabels()]
    document = data.splits["test"].pairs.documents[batch.indices[0]]
    assert "".join(labels) == document.replace("\n", "\\n") + "(end)"


def test_no_word_twice(small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocking sees words as they stand in the summary, the first one too."""
    found = []
    for size in (0, 1):
        told = [
            "generation.max_tokens=16",
            "generation.min_tokens=16",
            f"generation.no_repeat_ngram_size={size}",
        ]
        summarizer, data = built(small, *told)
        summarizer.eval()
        step, begins = summarizer.model.step, summarizer.words.begins_V
        monkeypatch.setattr(
            summarizer.model, "step", lambda *a, step=step, begins=begins: step(*a) + 9 * begins
        )
        summaries = summarizer.generate_texts(data.splits["test"].batch(range(6)))
        found.append([len(text.split()) - len(set(text.split())) for text in summaries])
    repeats, blocked = found
    assert min(repeats) > 0 and max(blocked) == 0, (repeats, blocked)


@pytest.mark.pictures
def test_decoding_in_bf16(small) -> None:
    summarizer, data = built(small, "generation.precision=bfloat16")
    summarizer.load_weights(summarizer.state_dict())
    summarizer.eval()
    assert {p.dtype for p in summarizer.parameters()} == {torch.bfloat16}
    batch = data.splits["test"].batch(range(3))
    assert len(summarizer.generate_texts(batch)) == 3
    assert summarizer.plot_attention(data.splits["test"].shortest()).axes


@pytest.mark.parametrize("gates", [[], ["heads.gates=l0"]])
def test_loaded_weights_come_without_the_heads_that_are_off(small, gates: list[str]) -> None:
    summarizer, data = built(small, *gates, "generation.heads_off=[cross.0.1,encoder.0.0]")
    summarizer.load_weights(summarizer.state_dict())
    found = {name: block.head_gates for name, block in attention_blocks(summarizer.model).items()}
    assert found["cross.0"].tolist() == [1, 0] and found["encoder.0"].tolist() == [0, 1]

    # Their output is lost.
    summarizer.eval()
    batch = data.splits["test"].batch(range(3))
    output, targets_M = summarizer.forward_batch(batch)
    attention_blocks(summarizer.model)["cross.0"].head_gates = None
    complete, _ = summarizer.forward_batch(batch)
    assert output.loss(targets_M) != complete.loss(targets_M)


@pytest.mark.parametrize(
    ("changes", "metrics"),
    [
        pytest.param([], [0, 1, 2], id="all"),
        pytest.param(["generation.mbr_metrics=[rouge2]"], [1], id="rouge2"),
        pytest.param(["generation.mbr_metrics=[rouge1,rougeL]"], [0, 2], id="rouge1-rougeL"),
    ],
)
def test_minimum_bayes_risk_maximizes_expected_rouge(small, changes, metrics) -> None:
    """The first of several summaries has the highest mean of ROUGE-1, 2 and L, or of those that
    are chosen, against all others that were found."""
    summarizer, data = built(
        small,
        *changes,
        "generation.strategy=mbr",
        "generation.mbr_num_beams=3",
        "generation.mbr_num_samples=5",
        "generation.mbr_temperature=1.5",
        "generation.max_tokens=12",
        "generation.num_return_sequences=8",
    )
    summarizer.eval()
    batch = data.splits["test"].batch(range(4))
    seen: list[list[str]] = []
    utility = summarizer._mutual_rouge

    def remember(hypotheses: Sequence[Hypothesis]) -> torch.Tensor:
        seen.append([summarizer.text_of(each) for each in hypotheses])
        return utility(hypotheses)

    summarizer._mutual_rouge = remember
    found = summarizer.summarize(batch)
    for texts, summaries in zip(seen, found, strict=True):
        assert len(texts) == 8
        scores = [each.score for each in summaries]
        assert scores == sorted(scores, reverse=True)
        expected = []
        for number, text in enumerate(texts):
            others = texts[:number] + texts[number + 1 :]
            pairs = [
                Rouge.from_config(EvaluationConfig()).score(text, [other]) for other in others
            ]
            expected.append(np.mean([[pair[metric] for metric in metrics] for pair in pairs]))
        assert scores[0] == pytest.approx(max(expected))
        assert summaries[0].summary in [
            text for text, value in zip(texts, expected, strict=True) if value > scores[0] - 1e-9
        ]
