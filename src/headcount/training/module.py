"""The LightningModule: loss, optimizer, validation by ROUGE, greedy summaries."""

import math
import time
import zlib
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from tokenizers import Tokenizer
from torch import Tensor

from headcount.config.schema import Config, Schedule
from headcount.data.tokenizer import END, START, words_of
from headcount.errors import ConfigError
from headcount.evaluation.rouge import ROUGE_TYPES, Rouge
from headcount.generation.constraints import Constraints, Words
from headcount.generation.generate import Hypothesis, LengthPenalty, Sampling, Search, beam_search, write
from headcount.model.build import build_model
from headcount.model.copying import Prediction
from headcount.model.ragged import Rows
from headcount.runs.partial_predictions import Parts
from headcount.training.attention_plot import draw_cross_attention
from headcount.training.data_module import Batch, SummarizationDataModule


class Written(NamedTuple):
    """A summary: its example's row, its text, whether it ended because it was as long as allowed, and its score."""

    row: int
    summary: str
    cut: bool
    score: float


def said_of_long(config: Config, number: int, documents: int) -> str:
    """Return the line on documents that were longer than the model reads; nothing if there were none."""
    how = {"truncate": "cut at", "split": "read in windows of"}[config.generation.long_documents]
    what = f"{number:,} of {documents:,} documents were {how} {config.data.max_document_tokens:,} tokens"
    return what if number else ""


class Summarizer(pl.LightningModule):
    """Trains a summarizer and writes summaries with it."""

    def __init__(self, config: Config, plain: dict[str, Any], tokenizer: Tokenizer) -> None:
        """Remember what to build; ``configure_model`` builds it.

        Args:
            config: the run's config.
            plain: the same as a nested dict; it goes into the checkpoints.
            tokenizer: that of the data.
        """
        super().__init__()
        self.config = config
        self.plain = plain
        self.tokenizer = tokenizer
        self.token_ids = tokenizer.get_vocab()
        self.rouge = Rouge(config.evaluation.references)
        self.samples: list[list[str]] = []
        self.parts: Parts | None = None  # where predictions are kept

    def configure_model(self) -> None:
        """Build the layers, once; here, so that a sharded strategy may decide where they live."""
        if not hasattr(self, "model"):
            self.model = build_model(
                self.config.model,
                vocabulary_size=self.tokenizer.get_vocab_size(),
                max_positions=self.config.max_positions,
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the resolved config into the checkpoint."""
        checkpoint["config"] = self.plain

    def predict_batch(self, batch: Batch, *, return_weights: bool = False) -> tuple[Prediction, Tensor]:
        """Return what is expected to follow each summary token of a batch, and the tokens that do, [M]."""
        device = batch.document_ids.device
        first_M = Rows.of(batch.summary_lengths, device).positions == 0
        prediction = self.model(
            batch.document_ids,
            Rows.of(batch.document_lengths, device),
            batch.summary_ids[~first_M.roll(-1)],
            Rows.of([length - 1 for length in batch.summary_lengths], device),
            return_weights=return_weights,
        )
        return prediction, batch.summary_ids[~first_M].long()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the smoothed loss of a batch, and what coverage adds to it."""
        prediction, targets_M = self.predict_batch(batch)
        loss = prediction.loss(targets_M, label_smoothing=self.config.optimizer.label_smoothing)
        figures = {"train/loss": loss.detach()}
        if self.config.model.coverage:
            coverage = prediction.coverage_loss()
            loss = loss + self.config.model.coverage * coverage
            figures["train/coverage_loss"] = coverage.detach()
        if self._is_logged():  # with copying it takes a tenth of a step
            figures["train/token_accuracy"] = token_accuracy(prediction, targets_M)
        self.log_dict(figures, batch_size=len(targets_M))
        return loss

    def _is_logged(self) -> bool:
        every: int = self.config.trainer["log_every_n_steps"] or 0
        return every > 0 and (self.trainer.global_step + 1) % every == 0

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log the loss without smoothing and the ROUGE of greedy summaries."""
        prediction, targets_M = self.predict_batch(batch)
        accuracy = token_accuracy(prediction, targets_M)
        losses = {"validation/loss": prediction.loss(targets_M), "validation/token_accuracy": accuracy}
        self.log_dict(losses, batch_size=len(targets_M), sync_dist=True)
        data: SummarizationDataModule = self.trainer.datamodule  # type: ignore[attr-defined] # Lightning sets it untyped
        pairs = data.splits["validation"].pairs
        scores = torch.zeros(len(ROUGE_TYPES), dtype=torch.float64)
        for index, summary in zip(batch.indices, self.summarize(batch, greedily=True), strict=True):
            scores += torch.tensor(self.rouge.score(summary, pairs.references[index])).double() * 100
            self.samples.append([pairs.ids[index], pairs.documents[index], pairs.references[index][0], summary])
        means = dict(zip((f"validation/{kind}" for kind in ROUGE_TYPES), scores / len(batch.indices), strict=True))
        means = {name: value.float() for name, value in means.items()}
        self.log_dict(means, batch_size=len(batch.indices), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log a table of documents, references and summaries, and where each head looked for one of them."""
        data: SummarizationDataModule = self.trainer.datamodule  # type: ignore[attr-defined] # Lightning sets it untyped
        for logger in self.loggers:
            if isinstance(logger, WandbLogger) and self.trainer.is_global_zero:
                columns = ["id", "document", "reference", "summary"]
                logger.log_table("validation/summaries", columns=columns, data=self.samples[:20])
                logger.log_image(
                    "validation/cross_attention", [self.draw(data.splits["validation"].shortest(), greedily=True)]
                )
        self.samples.clear()

    def predict_step(self, batch: Batch, batch_index: int) -> list[Written]:
        """Write the best summary of each document of a batch, and keep it where that is asked for."""
        began = time.perf_counter()
        written = [found[0] for found in self.write_documents(batch)]
        milliseconds = 1000 * (time.perf_counter() - began) / len(written)
        if self.parts is not None:
            self.parts.append([{**each._asdict(), "milliseconds": milliseconds} for each in written])
        return written

    def summarize(self, batch: Batch, *, greedily: bool = False) -> list[str]:
        """Write the best summary of each document of a batch, as the config says or greedily."""
        return [self.text_of(found[0]) for found in self.write(batch, greedily=greedily)]

    def text_of(self, hypothesis: Hypothesis) -> str:
        """Return a summary as one line."""
        return " ".join(self.tokenizer.decode(hypothesis.tokens).split())

    def write_documents(self, batch: Batch) -> list[list[Written]]:
        """Write the summaries of each document of a batch; those of its windows are joined, and their scores added."""
        size, windows = self.config.generation.batch_size, len(batch.indices) > len(set(batch.indices))
        found = [each for piece in (batch.pieces(size) if windows else [batch]) for each in self.write(piece)]
        documents: dict[int, list[list[Hypothesis]]] = {}
        for row, hypotheses in zip(batch.indices, found, strict=True):
            documents.setdefault(row, []).append(hypotheses)
        return [
            [
                Written(
                    row=row,
                    summary=" ".join(filter(None, map(self.text_of, parts))),
                    cut=not all(part.ended for part in parts),
                    score=sum(part.score for part in parts),
                )
                for parts in zip(*of_windows, strict=False)  # of one window all there are, of several the best of each
            ]
            for row, of_windows in documents.items()
        ]

    def take(self, weights: dict[str, Tensor]) -> None:
        """Take trained weights to write summaries with, in the precision that the config has for that.

        Raises:
            ConfigError: they are another model's.
        """
        self.configure_model()
        try:
            self.load_state_dict(weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            said = " ".join(str(error).split())[:200]
            raise ConfigError(f"these weights are not of the model that the config describes: {said}") from None
        self.to(getattr(torch, self.config.generation.precision))

    @cached_property
    def words(self) -> Words:
        """Return which tokens make words."""
        begins, within = words_of(self.tokenizer)
        return Words(begins_V=torch.tensor(begins), within_V=torch.tensor(within))

    def write(self, batch: Batch, *, greedily: bool = False) -> list[list[Hypothesis]]:
        """Generate the summaries of a batch, ``generation.num_return_sequences`` of each document, the best first."""
        knobs, strategy = self.config.generation, "greedy" if greedily else self.config.generation.strategy
        search = Search(
            start_id=self.token_ids[START],
            end_id=self.token_ids[END],
            max_tokens=knobs.max_tokens,
            constraints=Constraints(
                min_tokens=knobs.min_tokens,
                no_repeat_ngram=knobs.no_repeat_ngram_size,
                words=self.words.to(self.device) if knobs.no_repeat_ngram_size else None,
                repetition_penalty=knobs.repetition_penalty,
            ),
            width={"greedy": 1, "beam": knobs.num_beams, "sample": knobs.num_return_sequences}[strategy],
            groups=knobs.num_beam_groups,
            diversity=knobs.diversity_penalty,
            length_penalty=LengthPenalty(kind=knobs.length_penalty, alpha=knobs.length_penalty_alpha),
            coverage_penalty=knobs.coverage_penalty,
        )
        documents_N = batch.document_ids.to(self.device)
        rows = Rows.of(batch.document_lengths, self.device)
        if strategy == "beam":
            found = beam_search(self.model, documents_N, rows, search)
        elif strategy == "greedy":
            found = write(self.model, documents_N, rows, search)
        else:
            content = zlib.crc32(batch.document_ids.cpu().numpy().tobytes())  # whatever was drawn before, so is this
            [seed] = np.random.SeedSequence([self.config.seed, content]).generate_state(1, np.uint64).tolist()
            generator = torch.Generator(self.device).manual_seed(seed)
            drawn = Sampling(generator=generator, temperature=knobs.temperature, top_k=knobs.top_k, top_p=knobs.top_p)
            found = write(self.model, documents_N, rows, search, sampling=drawn)
        return [hypotheses[: knobs.num_return_sequences] for hypotheses in found]

    @torch.inference_mode()
    def draw(self, batch: Batch, *, greedily: bool = False) -> Figure:
        """Write the summary of a batch's one example; draw where the last layer's heads look, a panel a head."""
        [[best, *_]] = self.write(batch, greedily=greedily)
        written, end = (best.tokens, ["(end)"]) if best.ended else (best.tokens[:-1], [])
        document_N, rows = batch.document_ids.to(self.device), Rows.of(batch.document_lengths, self.device)
        read_M = torch.tensor([self.token_ids[START], *written], device=self.device)
        prediction = self.model(document_N, rows, read_M, Rows.of([len(read_M)], self.device), return_weights=True)
        texts = [self.tokenizer.decode([i]) or "(end)" for i in (*document_N.tolist(), *best.tokens)]
        names = [text if text.isprintable() else repr(text)[1:-1] for text in texts]
        cut = len(document_N)
        return draw_cross_attention(prediction.weights[-1][0].float(), [*names[cut:], *end], names[:cut])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW, which decays matrices only, and the schedule, which moves with every step."""
        knobs = self.config.optimizer
        parameters = list(self.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": knobs.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        fused = "mixed" not in str(self.trainer.precision)  # Lightning 2.6 does not clip fused steps in mixed precision
        optimizer = torch.optim.AdamW(groups, lr=knobs.learning_rate, betas=(knobs.beta1, knobs.beta2), fused=fused)

        def factor(step: int) -> float:
            # The number of steps is asked for after the first step and not here. Under a budget of epochs Lightning
            # sets up the training data to answer, which must not happen before a resumed run's position is restored.
            total = int(self.trainer.estimated_stepping_batches) if step else 1
            return learning_rate_factor(step, knobs.schedule, knobs.warmup_steps, total)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@torch.no_grad()
def token_accuracy(prediction: Prediction, targets_M: Tensor) -> Tensor:
    """Return the share of summary tokens that are the likeliest by the prediction."""
    return (prediction.likeliest() == targets_M).float().mean()


def learning_rate_factor(step: int, schedule: Schedule, warmup_steps: int, total_steps: int) -> float:
    """Return the share of the peak learning rate at a step: a linear warm-up, then the schedule.

    ``inverse_sqrt`` is that of Vaswani et al. 2017, section 5.3; ``cosine`` ends at zero (Loshchilov and Hutter 2017).
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "inverse_sqrt":
        return math.sqrt((warmup_steps + 1) / (step + 1))
    if schedule == "cosine":
        done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return 1.0
