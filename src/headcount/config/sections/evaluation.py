"""The section ``evaluation`` of a config."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from headcount.config.section import Section, key
from headcount.errors import ConfigError

SelectionMetric = Literal["rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf"]
CorpusMetricName = Literal["bleu", "chrf"]
ROUGE_METRICS = get_args(SelectionMetric)[:4]  # always computed
BleuTokenizer = Literal["13a", "intl", "zh", "char", "none"]
ReferenceRule = Literal["mean", "max", "best-by-rouge1"]
RougeTokenizer = Literal["rouge-score", "unicode", "character"]
SentenceRule = Literal["newline", "split"]
Unit = Literal["sentence", "line"]

EVALUATION_METRICS = ("rouge", *get_args(CorpusMetricName))
BASELINES = ["lead-1", "lead-3", "longest-3", "random-3", "oracle-3"]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """Validation, scores and baselines."""

    validation_examples: int = key(
        1000,
        "size of the fixed sample of validation examples that select the checkpoint; fewer take "
        "less time and leave the choice to chance",
        at_least=1,
    )
    metrics: list[str] = key(
        ["rouge"], "scores beside ROUGE, which is always computed: bleu and chrf, by sacrebleu"
    )
    select_by: SelectionMetric = key(
        "rougeL", "validation score that selects the checkpoint, one of the metrics"
    )
    selection_margin: float = key(
        1.0,
        "points of select_by by which a later validation may lie below the best one and is still "
        "selected: scores of a sample differ by chance; 0: the best one",
        at_least=0,
    )
    patience: int = key(
        0,
        "end the training after this many validations in a row without a better score; 0: never",
        at_least=0,
    )
    references: ReferenceRule = key(
        "mean", "how the scores against several references are combined"
    )
    tokenizer: RougeTokenizer = key(
        "rouge-score",
        "tokens of ROUGE: a-z and 0-9 only; unicode: words in any script; character: letters",
    )
    sentences: SentenceRule = key(
        "split", "sentences of ROUGE-Lsum: found in each line, or newline: the lines themselves"
    )
    bleu_tokenizer: BleuTokenizer = key(
        "13a", "sacrebleu's tokenizer for BLEU: zh for Chinese, char for Japanese or Thai"
    )
    baselines: list[str] = key(
        BASELINES, "extractive baselines in the table of scores: NAME-K takes K units"
    )
    unit: Unit = key("sentence", "unit that the extractive baselines select")

    @property
    def computed(self) -> list[str]:
        """The metrics that are computed, as ``select_by`` names them."""
        wanted = [*ROUGE_METRICS, *self.metrics, self.select_by]
        return [name for name in get_args(SelectionMetric) if name in wanted]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.metrics:
            if name not in EVALUATION_METRICS:
                raise ConfigError(
                    f"evaluation.metrics={name} is not a metric; legal: "
                    f"{', '.join(EVALUATION_METRICS)}"
                )
        for name in self.baselines:
            if not re.fullmatch(r"(lead|longest|random|oracle)-[1-9]\d*", name):
                raise ConfigError(
                    f"evaluation.baselines={name} is not a baseline; legal: lead-K, longest-K, "
                    "random-K and oracle-K"
                )
