"""The LightningModule: training loss, validation by ROUGE, and the summaries of documents.

The order is that in which Lightning calls the hooks: build the model, make the optimizer, train,
validate and test, generate. Beside the module are what it calls: ``learning_rate``,
``optimizers``, ``epoch_scores``, ``generated_summary`` and ``attention_plot``.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from matplotlib.figure import Figure
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.strategies import FSDPStrategy
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from tokenizers import Tokenizer
from torch import Tensor
from torch.optim import Optimizer

from headcount.config.load import as_dict, from_dict
from headcount.config.schema import Config
from headcount.data.batches import Batch, EncodedPairs, Layout
from headcount.data.tokenizer import (
    END,
    START,
    load_tokenizer,
    parse_tokenizer,
    token_name,
    vocabulary_size,
    words_of,
)
from headcount.errors import ConfigError
from headcount.escape import hide_passwords, map_texts
from headcount.evaluation.corpus_metrics import make_corpus_metrics
from headcount.evaluation.pairwise_rouge import pairwise_rouge
from headcount.evaluation.rouge import Rouge
from headcount.generation.constraints import Words, build_constraints
from headcount.generation.ensemble import Ensemble
from headcount.generation.generate import generate
from headcount.generation.hypothesis import Hypothesis
from headcount.model.base import SummaryModel
from headcount.model.build import build_model
from headcount.model.copying import CopyOutput
from headcount.model.head_gates import HardConcreteGates, LearnedGates, build_gates, close_heads
from headcount.model.output import ModelOutput
from headcount.model.ragged import BatchLayout
from headcount.model.trained_weights import check_weights
from headcount.runs.checkpoint import read_checkpoint
from headcount.runs.folder import RunFile
from headcount.training.attention_plot import draw_cross_attention
from headcount.training.epoch_scores import EpochScores
from headcount.training.generated_summary import (
    GeneratedSummary,
    document_seeds,
    join_windows,
    split_windows,
    text_of,
)
from headcount.training.learning_rate import staged_learning_rate_factor
from headcount.training.optimizers import has_whole_weights, make_optimizer

GATE_SCORES = "gates.scores_A"  # the name of learned gates in a checkpoint
SAMPLE_COLUMNS = ["id", "document", "reference", "summary"]  # of the table of validation summaries
MAX_SAMPLES = 20  # rows of that table


class Summarizer(pl.LightningModule):
    """Trains a summarization model and generates summaries with it.

    ``hparams`` is the config as nested dicts, and a batch is what ``module(batch)`` takes. The
    model is built when a Trainer starts, or by ``configure_model``.

    Args:
        config: of the run.
        tokenizer: that of the data.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.save_hyperparameters(map_texts(hide_passwords, as_dict(config)))
        self.example_input_array = (example_batch(tokenizer),)
        self.config = config
        self.tokenizer = tokenizer
        self.token_ids = tokenizer.get_vocab()
        self.rouge = Rouge.from_config(config.evaluation)
        self.epoch_scores = EpochScores(self.rouge, make_corpus_metrics(config.evaluation))
        self.samples: list[list[str]] = []  # rows of the table of validation summaries
        self.initial_weights: dict[str, Tensor] | None = None  # of the model; None: random ones
        self.ensemble: Ensemble | None = None
        self.gates: LearnedGates | None = None  # of the model's heads, if they are learned

    # The model and its weights

    def configure_model(self) -> None:
        """Build the model once.

        Lightning calls this where a sharded strategy can place the layers.
        """
        if not hasattr(self, "model"):
            self.model = build_model(
                self.config.model,
                vocabulary_size=vocabulary_size(self.tokenizer),
                max_positions=self.config.max_positions,
            )
            if self.initial_weights is not None:
                self.model.load_state_dict(self.initial_weights)
            self.gates = build_gates(self.config.heads, self.model)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the resolved config and the tokenizer in the checkpoint.

        Checkpoints are passed on and uploaded, so addresses in the config lose their passwords.
        """
        checkpoint["config"] = map_texts(hide_passwords, as_dict(self.config))
        checkpoint["tokenizer"] = self.tokenizer.to_str()

    @classmethod
    def load_from_checkpoint(  # type: ignore[override] # the other arguments of Lightning's would have no effect
        cls, checkpoint_path: str | Path, map_location: str | torch.device | None = None
    ) -> Self:
        """Load a checkpoint: the config, the tokenizer and the weights are in it.

        As in Lightning the module is in training mode: a Trainer changes that where it must, and
        ``eval()`` does elsewhere. Its weights are fp32, whatever ``generation.precision`` is, so
        that training can continue. A file with a SHA-256 beside it is verified. No code in a file
        is run.

        Args:
            checkpoint_path: a checkpoint of a run or of a plain Trainer, or an export's
                ``model.safetensors``.
            map_location: the device of the weights; None: the CPU.

        Raises:
            ConfigError: it is missing, damaged, or not a checkpoint of a summarizer.
        """
        path = Path(checkpoint_path)
        content = read_checkpoint(path)
        if "config" not in content:
            raise ConfigError(f"{path}: not a checkpoint of this version (no config)")
        config = from_dict(content["config"], str(path))

        # Exports and checkpoints of earlier versions have the tokenizer in a file.
        if "tokenizer" in content:
            tokenizer = parse_tokenizer(content["tokenizer"], path)
        else:
            is_export = path.name == RunFile.WEIGHTS
            folder = path.absolute().parents[0 if is_export else 1]
            tokenizer = load_tokenizer(folder / RunFile.TOKENIZER)

        summarizer = cls(config, tokenizer)
        summarizer.load_trained_weights(content["state_dict"])
        return summarizer.to(map_location or "cpu")

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Load trained weights for generation, in the precision of ``generation.precision`` and
        with the heads of ``generation.heads_off`` switched off.

        Raises:
            ConfigError: as ``load_trained_weights`` does.
        """
        self.load_trained_weights(weights)
        self.to(getattr(torch, self.config.generation.precision))

    def load_trained_weights(self, weights: dict[str, Tensor]) -> None:
        """Load trained weights, from which training can continue.

        Raises:
            ConfigError: they belong to another model, or memory cannot hold it.
        """
        # Their sizes are checked before memory is allocated for a model of the config.
        if not hasattr(self, "model"):
            of_model = {}
            for name, weight in weights.items():
                if name != GATE_SCORES:
                    of_model[name.removeprefix("model.")] = weight
            check_weights(of_model, self.config, vocabulary_size(self.tokenizer))

        self.configure_model()
        try:
            self.load_state_dict(weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"these weights are not of the model that the config describes: {reason}"
            ) from None

        # Gates that stay, for generation.
        if self.gates is not None:
            self.gates.set_gates(self.model, random=False)
        close_heads(self.model, self.config.generation.heads_off)

    def _gated(self) -> AbstractContextManager[None]:
        """Give the heads their learned gates within a ``with`` statement: random ones in training.

        Afterwards the heads have none, because a moving average of the weights has none.
        """
        if self.gates is None:
            return nullcontext()
        return self.gates.applied(self.model, random=self.training)

    # Optimizer and learning rate

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer and the learning-rate schedule by steps."""
        config = self.config.optimizer
        # Lightning 2.6 does not clip the gradients of fused optimizers in mixed precision.
        is_mixed = "mixed" in str(self.trainer.precision)
        optimizer = make_optimizer(
            self.model,
            config,
            fused=not is_mixed,
            gates=self.gates,
            gates_learning_rate=self.config.heads.gates_learning_rate,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_function())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _learning_rate_function(self) -> Callable[[int], float]:
        plan = self.config.stage_plan

        def factor(step: int) -> float:
            # The number of steps is asked for after the first step and not before. Under a budget
            # of epochs Lightning sets up the training data to answer, which must not happen before
            # a resumed run's position is restored.
            total_steps = self._total_steps() if step else 1
            return staged_learning_rate_factor(step, plan, total_steps)

        return factor

    def _total_steps(self) -> float:
        """Return the number of steps of the training; infinite where only time ends it, or where
        the epochs of a loader without a length do."""
        steps = self.trainer.estimated_stepping_batches
        return math.inf if steps < 0 else steps

    def on_train_start(self) -> None:
        """Warn if the learning rate will not fall, because nobody knows where the end is."""
        schedule = self.config.stage_plan[-1][1].schedule
        if schedule == "cosine" and math.isinf(self._total_steps()):
            rank_zero_warn(
                "optimizer.schedule=cosine has no end without a number of steps: the learning "
                "rate stays at its peak after the warm-up; set max_steps or max_epochs"
            )

    # Training

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the model's output for a batch under teacher forcing."""
        return self.forward_batch(batch)[0]

    def forward_batch(
        self, batch: Batch, *, return_weights: bool = False
    ) -> tuple[ModelOutput, Tensor]:
        """Return the output for a batch under teacher forcing, and the target tokens [M]."""
        device = batch.document_ids.device
        inputs_M, targets_M, input_layout = shift_by_one(batch.summary_ids, batch.summary_lengths)
        with self._gated():
            output = self.model(
                batch.document_ids,
                BatchLayout.from_lengths(batch.document_lengths, device),
                inputs_M,
                input_layout,
                return_weights=return_weights,
            )
        return output, targets_M.long()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the training loss.

        Cross-entropy with label smoothing, plus the weighted coverage loss and the penalty on open
        heads. With R-Drop (Liang et al. 2021) the mean of two passes with different dropout, plus
        their weighted divergence: half of the paper's loss, so that it keeps its scale.
        """
        output, targets_M = self.forward_batch(batch)
        loss, metrics = self._loss(output, targets_M)
        if self.config.optimizer.r_drop:
            second_output, _ = self.forward_batch(batch)
            second_loss, _ = self._loss(second_output, targets_M)
            divergence = output.divergence(second_output)
            loss = (loss + second_loss + self.config.optimizer.r_drop * divergence) / 2
            metrics["train/divergence"] = divergence.detach()

        # The accuracy takes up to a tenth of a step, so it is computed only when it is logged.
        if self.is_logging_step():
            metrics["train/token_accuracy"] = token_accuracy(output, targets_M)
        self.log_dict(metrics, batch_size=len(targets_M))
        return loss

    def _loss(self, output: ModelOutput, targets_M: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one pass, and its parts to log."""
        loss = output.loss(targets_M, label_smoothing=self.config.optimizer.label_smoothing)
        metrics = {"train/loss": loss.detach()}
        if self.config.model.coverage:
            assert isinstance(output, CopyOutput)
            coverage_loss = output.coverage_loss()
            loss = loss + self.config.model.coverage * coverage_loss
            metrics["train/coverage_loss"] = coverage_loss.detach()
        if isinstance(self.gates, HardConcreteGates):
            open_heads = self.gates.expected_open()
            loss = loss + self.config.heads.l0_penalty * open_heads
            metrics["train/open_heads"] = open_heads.detach()
        return loss, metrics

    def is_logging_step(self) -> bool:
        """Return whether the metrics of this step are written by the loggers."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined] # untyped in Lightning
        return every > 0 and (self.trainer.global_step + 1) % every == 0

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients by ``trainer.gradient_clip_val``.

        Each rank of FSDP has a part of them. Their norm is that of all parts, which Lightning
        leaves to the module.
        """
        strategy = self.trainer.strategy
        is_by_norm = gradient_clip_algorithm in (None, "norm")
        if isinstance(strategy, FSDPStrategy) and gradient_clip_val and is_by_norm:
            from torch.distributed.fsdp import FullyShardedDataParallel  # takes a second

            assert isinstance(strategy.model, FullyShardedDataParallel)
            strategy.model.clip_grad_norm_(gradient_clip_val)
            return
        self.clip_gradients(
            optimizer,
            gradient_clip_val=gradient_clip_val,
            gradient_clip_algorithm=gradient_clip_algorithm,
        )

    # Validation and test

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log the loss without smoothing and the scores of greedily generated summaries."""
        output, targets_M = self.forward_batch(batch)
        losses = {
            "validation/loss": output.loss(targets_M),
            "validation/token_accuracy": token_accuracy(output, targets_M),
        }
        self.log_dict(losses, batch_size=len(targets_M), sync_dist=True)

        # A loader that is not of our data module has no split.
        summaries = self.generate_texts(batch, greedy=True)
        split = getattr(self.trainer.val_dataloaders, "split", None)
        references = self._references(batch, split)
        self._log_scores("validation", summaries, references)

        # For the table of validation summaries.
        if split is not None:
            for index, summary in zip(batch.indices, summaries, strict=True):
                row = [split.pairs.ids[index], split.pairs.documents[index]]
                self.samples.append([*row, references[index][0], summary])

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Log the scores of the summaries that ``headcount evaluate`` writes."""
        generated = self.summarize(batch)
        split = getattr(self.trainer.test_dataloaders, "split", None)
        references = self._references(batch, split)
        self._log_scores("test", [best.summary for best, *_ in generated], references)

    def _references(self, batch: Batch, split: EncodedPairs | None) -> dict[int, list[str]]:
        """Return the references of each row of a batch.

        Args:
            batch: the examples.
            split: which its loader reads; None: another loader than those of our data module, of
                whose examples only the tokens of one summary are known.
        """
        if split is not None:
            return {row: split.pairs.references[row] for row in batch.indices}
        summaries = batch.summary_ids.cpu().split(batch.summary_lengths)
        texts = [self.tokenizer.decode(ids.tolist()) for ids in summaries]
        return {row: [text] for row, text in zip(batch.indices, texts, strict=True)}

    def _log_scores(
        self, stage: str, summaries: Sequence[str], references: dict[int, list[str]]
    ) -> None:
        """Log the mean ROUGE of the summaries of a batch."""
        rouge = self.epoch_scores.add(summaries, list(references.values()))
        metrics = {f"{stage}/{kind}": mean for kind, mean in rouge.items()}
        self.log_dict(metrics, batch_size=len(summaries), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log the corpus metrics; validation summaries and the cross-attention of one example to
        W&B."""
        self._log_corpus_metrics("validation")
        self._log_samples_to_wandb()
        self._reset_validation()

    def _log_samples_to_wandb(self) -> None:
        """Log validation summaries and the cross-attention of the shortest example."""
        split = getattr(self.trainer.val_dataloaders, "split", None)
        if not split or not self.trainer.is_global_zero:
            return
        for logger in self.loggers:
            if not isinstance(logger, WandbLogger):
                continue
            samples = self.samples[:MAX_SAMPLES]
            logger.log_table("validation/summaries", columns=SAMPLE_COLUMNS, data=samples)

            # With sharded weights one rank alone cannot run the model.
            if has_whole_weights(self.trainer):
                plot = self.plot_attention(split.shortest(), greedy=True)
                logger.log_image("validation/cross_attention", [plot])

    def on_test_epoch_end(self) -> None:
        """Log the corpus metrics."""
        self._log_corpus_metrics("test")
        self._reset_validation()

    def _log_corpus_metrics(self, stage: str) -> None:
        """Log each corpus metric, from the summed statistics of all ranks."""
        for name, score in self.epoch_scores.score_corpus(self._sum_over_ranks).items():
            self.log(f"{stage}/{name}", score, sync_dist=True)

    def _sum_over_ranks(self, values: Tensor) -> Tensor:
        sums: Tensor = self.trainer.strategy.reduce(values.to(self.device), reduce_op="sum")
        return sums

    def _reset_validation(self) -> None:
        """Forget the collected summaries and statistics, for the next validation or test."""
        self.samples = []
        self.epoch_scores.reset()

    # Generation

    def form_ensemble(self, models: Sequence[SummaryModel[Any]]) -> None:
        """Generate from now on in an ensemble of this model and others.

        Everything but generation remains this model's: the attention plot shows its attention to
        what the ensemble has generated.

        Args:
            models: trained with the same tokenizer.
        """
        self.joined = torch.nn.ModuleList(models)  # moves to the device with the model
        self.ensemble = Ensemble([self.model, *models])

    def predict_step(self, batch: Batch, batch_index: int) -> list[GeneratedSummary]:
        """Return the best summary of each document, for ``Trainer.predict``."""
        return [summaries[0] for summaries in self.summarize(batch)]

    def summarize(self, batch: Batch) -> list[list[GeneratedSummary]]:
        """Return the summaries of each document of a batch, the best first.

        The summaries of a document's windows are joined; see ``join_windows``.

        Args:
            batch: the documents; windows of one document share its index.
        """
        hypotheses: list[list[Hypothesis]] = []
        for piece in split_windows(batch, self.config.generation.batch_size):
            hypotheses.extend(self._generate_nonempty(piece))
        return join_windows(batch.indices, hypotheses, self.tokenizer)

    def _generate_nonempty(self, batch: Batch) -> list[list[Hypothesis]]:
        """Generate summaries, but an empty one where the end token is all there is to read."""
        nonempty = [i for i, length in enumerate(batch.document_lengths) if length > 1]
        if len(nonempty) == len(batch.indices):
            return self.generate(batch)

        hypotheses = [[Hypothesis(tokens=[], score=0.0, finished=True)] for _ in batch.indices]
        if nonempty:
            generated = self.generate(batch.select(nonempty))
            for i, of_document in zip(nonempty, generated, strict=True):
                hypotheses[i] = of_document
        return hypotheses

    def generate_texts(self, batch: Batch, *, greedy: bool = False) -> list[str]:
        """Return the text of the best summary of each example of a batch."""
        return [self.text_of(hypotheses[0]) for hypotheses in self.generate(batch, greedy=greedy)]

    def text_of(self, hypothesis: Hypothesis) -> str:
        """Return a summary as one line."""
        return text_of(hypothesis, self.tokenizer)

    def generate(self, batch: Batch, *, greedy: bool = False) -> list[list[Hypothesis]]:
        """Generate up to ``generation.num_return_sequences`` summaries of each example, the best
        first.

        Args:
            batch: the documents.
            greedy: use greedy search, whatever the config says; it returns one summary.
        """
        config = self.config.generation
        if greedy:
            config = replace(config, strategy="greedy", num_return_sequences=1)

        end_id = self.token_ids[END]
        words = self.words.to(self.device) if config.no_repeat_ngram_size else None
        is_random = config.strategy in ("sample", "mbr")
        with self._gated():
            return generate(
                self.model if self.ensemble is None else self.ensemble,
                batch.document_ids.to(self.device),
                BatchLayout.from_lengths(batch.document_lengths, self.device),
                config,
                start_id=self.token_ids[START],
                end_id=end_id,
                constraints=build_constraints(config, end_id=end_id, words=words),
                seeds=document_seeds(batch, self.config.seed) if is_random else (),
                utility=self._mutual_rouge,
            )

    def _mutual_rouge(self, hypotheses: Sequence[Hypothesis]) -> Tensor:
        """Return the ROUGE of each hypothesis against each: the utility of minimum Bayes risk."""
        texts = [self.text_of(each) for each in hypotheses]
        metrics = self.config.generation.mbr_metrics
        return torch.from_numpy(pairwise_rouge(texts, self.rouge.tokenize, metrics))

    @cached_property
    def words(self) -> Words:
        """Which tokens form words."""
        begins, within = words_of(self.tokenizer)
        return Words(begins_V=torch.tensor(begins), within_V=torch.tensor(within))

    @torch.inference_mode()
    def plot_attention(self, batch: Batch, *, greedy: bool = False) -> Figure:
        """Generate the summary of a batch's one example and plot the last layer's attention to the
        document.

        Args:
            batch: one example.
            greedy: use greedy search, whatever the config says.
        """
        [[best, *_]] = self.generate(batch, greedy=greedy)

        # Read the generated summary again, to get the weights of every head. Those at a token have
        # generated the next one, so that the last one is not read.
        document_ids_N = batch.document_ids.to(self.device)
        generated = best.generated(self.token_ids[END])
        summary_ids_M = torch.tensor([self.token_ids[START], *generated[:-1]], device=self.device)
        with self._gated():
            output = self.model(
                document_ids_N,
                BatchLayout.from_lengths(batch.document_lengths, self.device),
                summary_ids_M,
                BatchLayout.from_lengths([len(summary_ids_M)], self.device),
                return_weights=True,
            )

        document = [self.token_name(token) for token in document_ids_N.tolist()]
        summary = [self.token_name(token) for token in generated]
        return draw_cross_attention(output.weights[-1][0].float(), summary, document)

    def token_name(self, token: int) -> str:
        """Return the text of a token for a picture."""
        return token_name(self.tokenizer, token)


def example_batch(tokenizer: Tokenizer) -> Batch:
    """Return a batch of two examples, of the first tokens of a vocabulary."""
    layout = Layout.from_tokenizer(tokenizer, max_document_tokens=8, max_summary_tokens=8)
    tokens = np.arange(7, dtype=np.int32)
    return layout.batch([0, 1], [tokens, tokens[:5]], [tokens[:3], tokens[:2]])


def shift_by_one(ids: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor, BatchLayout]:
    """Return inputs and targets of teacher forcing: the model reads each token and predicts the
    next one.

    Args:
        ids: tokens of the summaries, end to end, with start and end tokens.
        lengths: number of tokens of each.

    Returns:
        The inputs (all tokens but each last one), the targets (all but each first one), and the
        layout of both.
    """
    is_first = BatchLayout.from_lengths(lengths, ids.device).positions == 0
    is_last = is_first.roll(-1)
    layout = BatchLayout.from_lengths([length - 1 for length in lengths], ids.device)
    return ids[~is_last], ids[~is_first], layout


@torch.no_grad()
def token_accuracy(output: ModelOutput, targets_M: Tensor) -> Tensor:
    """Return the share of target tokens that are the most probable ones."""
    return (output.most_likely() == targets_M).float().mean()
