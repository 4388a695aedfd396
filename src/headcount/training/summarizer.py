"""The LightningModule: loss, optimizer, validation by ROUGE, greedy summaries."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from headcount.config import Config, Schedule
from headcount.data.module import Batch, SummarizationDataModule
from headcount.data.tokenizer import END, START
from headcount.evaluation.rouge import ROUGE_TYPES, Rouge
from headcount.model.attention import Rows
from headcount.model.transformer import Transformer, decode_greedily
from headcount.training.picture import draw_cross_attention


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
        self.rouge = Rouge()
        self.samples: list[list[str]] = []

    def configure_model(self) -> None:
        """Build the layers, once; here, so that a sharded strategy may decide where they live."""
        if not hasattr(self, "model"):
            model = self.config.model
            self.model = Transformer(
                vocabulary_size=self.tokenizer.get_vocab_size(),
                max_positions=self.config.max_positions,
                embedding_size=model.embedding_size,
                num_heads=model.num_heads,
                feedforward_size=model.feedforward_size,
                encoder_layers=model.encoder_layers,
                decoder_layers=model.decoder_layers,
                positions=model.positions,
                dropout=model.dropout,
                attention_dropout=model.attention_dropout,
                tie_embeddings=model.tie_embeddings,
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the resolved config into the checkpoint."""
        checkpoint["config"] = self.plain

    def loss(self, batch: Batch, *, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the share of right guesses over the real target tokens of a batch."""
        device = batch.document_ids.device
        first_M = Rows.of(batch.summary_lengths, device).positions() == 0
        logits_MV = self.model(
            batch.document_ids,
            Rows.of(batch.document_lengths, device),
            batch.summary_ids[~first_M.roll(-1)],
            Rows.of([length - 1 for length in batch.summary_lengths], device),
        )
        targets_M = batch.summary_ids[~first_M].long()
        accuracy = (logits_MV.argmax(-1) == targets_M).float().mean()
        return F.cross_entropy(logits_MV, targets_M, label_smoothing=label_smoothing), accuracy

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the smoothed loss of a batch."""
        loss, accuracy = self.loss(batch, label_smoothing=self.config.optimizer.label_smoothing)
        targets = len(batch.summary_ids) - len(batch.indices)
        self.log_dict({"train/loss": loss, "train/token_accuracy": accuracy}, batch_size=targets)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log the loss without smoothing and the ROUGE of greedy summaries."""
        loss, accuracy = self.loss(batch)
        targets = len(batch.summary_ids) - len(batch.indices)
        losses = {"validation/loss": loss, "validation/token_accuracy": accuracy}
        self.log_dict(losses, batch_size=targets, sync_dist=True)
        data: SummarizationDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        pairs = data.splits["validation"].pairs
        scores = torch.zeros(len(ROUGE_TYPES), dtype=torch.float64)
        for index, summary in zip(batch.indices, self.summarize(batch), strict=True):
            scores += torch.tensor(self.rouge.score(summary, pairs.references[index])).double() * 100
            self.samples.append([pairs.ids[index], pairs.documents[index], pairs.references[index][0], summary])
        means = dict(zip((f"validation/{kind}" for kind in ROUGE_TYPES), scores / len(batch.indices), strict=True))
        means = {name: value.float() for name, value in means.items()}
        self.log_dict(means, batch_size=len(batch.indices), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log a table of documents, references and summaries, and where each head looked for one of them."""
        data: SummarizationDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        for logger in self.loggers:
            if isinstance(logger, WandbLogger) and self.trainer.is_global_zero:
                columns = ["id", "document", "reference", "summary"]
                logger.log_table("validation/summaries", columns=columns, data=self.samples[:20])
                logger.log_image("validation/cross_attention", [self.draw(data.splits["validation"].shortest())])
        self.samples.clear()

    def predict_step(self, batch: Batch, batch_index: int) -> list[tuple[int, str]]:
        """Return for each example its row and its summary."""
        return list(zip(batch.indices, self.summarize(batch), strict=True))

    def summarize(self, batch: Batch) -> list[str]:
        """Write the summaries of a batch."""
        return [" ".join(text.split()) for text in self.tokenizer.decode_batch(self._write(batch))]

    def _write(self, batch: Batch) -> list[list[int]]:
        return decode_greedily(
            self.model,
            batch.document_ids.to(self.device),
            Rows.of(batch.document_lengths, self.device),
            start_id=self.token_ids[START],
            end_id=self.token_ids[END],
            max_tokens=self.config.decoding.max_tokens,
        )

    @torch.inference_mode()
    def draw(self, batch: Batch) -> Figure:
        """Write the summary of a batch's one example; draw where the last layer's heads look, a panel a head."""
        [written] = self._write(batch)
        document_N, rows = batch.document_ids.to(self.device), Rows.of(batch.document_lengths, self.device)
        read_M = torch.tensor([self.token_ids[START], *written], device=self.device)
        memory_ND, read_rows = self.model.encode(document_N, rows), Rows.of([len(read_M)], self.device)
        _, weights = self.model.decode(memory_ND, rows, read_M, read_rows, return_weights=True)
        texts = [self.tokenizer.decode([i]) or "(end)" for i in (*document_N.tolist(), *written)]
        names = [text if text.isprintable() else repr(text)[1:-1] for text in texts]
        cut = len(document_N)
        return draw_cross_attention(weights[-1][0], [*names[cut:], "(end)"], names[:cut])

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
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, knobs.schedule, knobs.warmup_steps, total)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


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
