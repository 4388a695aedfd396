"""The config as a whole: its sections in their order, and what one demands of another.

Read ``section`` first: how a key is declared and checked. Then read the section that you need, in
the file of its name in ``sections/``, and then the class below. ``load`` makes a config from files
and overrides.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from headcount.config.section import Section, key
from headcount.config.sections.callbacks import CallbacksConfig
from headcount.config.sections.data import DataConfig
from headcount.config.sections.evaluation import EvaluationConfig
from headcount.config.sections.generation import GenerationConfig
from headcount.config.sections.heads import HeadsConfig
from headcount.config.sections.loggers import LoggersConfig
from headcount.config.sections.model import ModelConfig
from headcount.config.sections.model_attention import ATTENTION_SITES
from headcount.config.sections.optimizer import OptimizerConfig
from headcount.config.sections.run import RunConfig
from headcount.config.sections.stages import StageConfig
from headcount.config.sections.tokenizer import TokenizerConfig
from headcount.config.sections.tracking import TrackingConfig
from headcount.config.trainer import TRAINER_DEFAULTS, check_trainer
from headcount.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Config(Section):
    """Everything that a run depends on."""

    seed: int = key(0, "seed of initialization, data order and dropout", at_least=0, below=2**32)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    stages: list[StageConfig] = key(
        [],
        "consecutive parts of a training: a list of mappings of "
        + ", ".join(declared.name for declared in fields(StageConfig)),
    )
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    loggers: LoggersConfig = field(default_factory=LoggersConfig)
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    run: RunConfig = field(default_factory=RunConfig)
    trainer: dict[str, Any] = key(TRAINER_DEFAULTS, "arguments of pytorch_lightning.Trainer")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_trainer(self.trainer)

        # What one section demands of another, or of the trainer.
        self._check_stream_end()
        self._check_r_drop()
        self._check_bpe_dropout()
        self._check_stages()
        self._check_gates()
        self._check_generation_length()
        self._check_heads_off()

    @property
    def stage_plan(self) -> list[tuple[int, StageConfig]]:
        """The stages with the step at which each begins; one stage where none are declared."""
        stages = self.stages or [
            StageConfig(
                objective=self.data.objective,
                schedule=self.optimizer.schedule,
                warmup_steps=self.optimizer.warmup_steps,
            )
        ]
        begin = 0
        plan = []
        for stage in stages:
            plan.append((begin, stage))
            begin += stage.steps or 0
        return plan

    @property
    def max_positions(self) -> int:
        """Number of positions of the model."""
        document = self.data.max_document_tokens
        summary = self.data.max_summary_tokens
        if self.model.architecture == "gpt":
            return document + summary  # they are one text
        return max(document, summary)

    @property
    def _max_summary_positions(self) -> int:
        if self.model.architecture == "gpt":
            return self.data.max_summary_tokens
        return self.max_positions

    def _check_stream_end(self) -> None:
        """Check that a training on a stream, which has no end, is given one."""
        if self.data.streaming and self.trainer.get("max_steps", -1) < 0:
            raise ConfigError(
                "trainer.max_steps=-1 does not go with data.streaming=True, which has no end; "
                "legal: steps"
            )

    def _check_r_drop(self) -> None:
        """Check that the two passes of R-Drop differ, which they only do by dropout."""
        has_dropout = (
            self.model.dropout or self.model.attention_dropout or self.model.layer_dropout
        )
        if self.optimizer.r_drop and not has_dropout:
            raise ConfigError(
                f"optimizer.r_drop={self.optimizer.r_drop} does nothing with "
                f"model.dropout={self.model.dropout}; legal: 0, or a dropout"
            )

    def _check_bpe_dropout(self) -> None:
        """Check that the tokenizer has merges to leave out, which only BPE has."""
        if self.data.bpe_dropout and self.tokenizer.algorithm != "bpe":
            raise ConfigError(
                f"data.bpe_dropout={self.data.bpe_dropout} does not go with "
                f"tokenizer.algorithm={self.tokenizer.algorithm}; legal: 0"
            )

    def _check_stages(self) -> None:
        """Check that each stage but the last has a number of steps."""
        for number, stage in enumerate(self.stages, 1):
            is_last = number == len(self.stages)
            if is_last and stage.steps is not None:
                raise ConfigError(
                    f"stages: steps={stage.steps} of stage {number}, the last one, which takes "
                    "what is left of the trainer's budget; legal: null"
                )
            if not is_last and stage.steps is None:
                raise ConfigError(
                    f"stages: steps=null of stage {number}, which another one follows; legal: a "
                    "number of steps"
                )

    def _check_gates(self) -> None:
        """Check that top-k gates have a number of heads to keep, and others have none."""
        keep = self.heads.keep
        if self.heads.gates != "top_k":
            if keep is not None:
                raise ConfigError(
                    f"heads.keep={keep} does nothing with heads.gates={self.heads.gates}; legal: "
                    "null, or heads.gates=top_k"
                )
            return
        heads = self.model.count_heads()
        if keep is None or keep > heads:
            raise ConfigError(
                f"heads.keep={'null' if keep is None else keep} does not go with "
                f"heads.gates=top_k and the {heads} heads of the model; legal: 1 to {heads}"
            )

    def _check_generation_length(self) -> None:
        """Check that the model has a position for every token that may be generated."""
        shortest = self.generation.min_tokens
        longest = self.generation.max_tokens
        if shortest > longest:
            raise ConfigError(
                f"generation.min_tokens={shortest} is more than generation.max_tokens={longest}; "
                f"legal: at most {longest}"
            )
        positions = self._max_summary_positions
        if longest > positions:
            raise ConfigError(
                f"generation.max_tokens={longest} is beyond the model's positions, which "
                "data.max_document_tokens and "
                f"data.max_summary_tokens decide; legal: at most {positions}"
            )

    def _check_heads_off(self) -> None:
        """Check that the model has the heads that are switched off."""
        for name in self.generation.heads_off:
            if not self.model.has_head(name):
                sites = ATTENTION_SITES[self.model.architecture]
                raise ConfigError(
                    f"generation.heads_off={name}: the model has no such head; legal: "
                    f"SITE.LAYER.HEAD, numbers from zero, sites {', '.join(sites)}"
                )
