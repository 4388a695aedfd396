"""The section ``generation`` of a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headcount.config.section import Section, key, legal_divisors
from headcount.errors import ConfigError

PAIRWISE_METRICS = ("rouge1", "rouge2", "rougeL")  # what minimum Bayes risk can maximize


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(Section):
    """How summaries are generated. Validation always generates greedily."""

    strategy: Literal["greedy", "beam", "sample", "mbr"] = key(
        "greedy",
        "greedy search, beam search, sampling, or minimum Bayes risk: the candidate with the "
        "highest expected ROUGE",
    )
    max_tokens: int = key(
        "${data.max_summary_tokens}", "maximum number of tokens, with the end token", at_least=1
    )
    min_tokens: int = key(0, "minimum number of tokens, with the end token", at_least=0)
    no_repeat_ngram_size: int = key(
        0,
        "no n-gram of words of this size occurs twice; 3 is trigram blocking, 0 turns it off",
        at_least=0,
    )
    repetition_penalty: float = key(
        1.0, "factor on the log-probability of tokens generated before", at_least=1
    )
    num_beams: int = key(4, "beam: number of hypotheses of each document", at_least=1)
    num_beam_groups: int = key(
        1, "beam: number of groups of diverse beam search, a divisor of num_beams", at_least=1
    )
    diversity_penalty: float = key(
        0.0,
        "beam: subtracted from a token's score for each earlier group that chose it at this step",
        at_least=0,
    )
    length_penalty: Literal["wu", "average", "none"] = key(
        "wu", "beam: divisor of the score: that of Wu et al. 2016, the length, or none"
    )
    length_penalty_alpha: float = key(1.0, "beam: exponent of the length penalty", at_least=0)
    coverage_penalty: float = key(
        0.0, "beam: weight of the penalty on document tokens that got little attention", at_least=0
    )
    temperature: float = key(1.0, "sample: softmax temperature; below 1 sharpens", at_least=1e-3)
    top_k: int = key(
        0, "sample, mbr: draw from the k most probable tokens; 0: from all", at_least=0
    )
    top_p: float = key(
        1.0,
        "sample, mbr: draw from the most probable tokens that together reach p; 1: from all",
        at_least=0,
        below=1.0001,
    )
    mbr_num_beams: int = key(
        8, "mbr: number of candidates from beam search, with the keys of beam", at_least=0
    )
    mbr_num_samples: int = key(16, "mbr: number of candidates from sampling", at_least=0)
    mbr_temperature: float = key(
        0.7, "mbr: softmax temperature of sampled candidates", at_least=1e-3
    )
    mbr_candidates: Literal["ensemble", "each"] = key(
        "ensemble",
        "mbr with several runs: candidates of their averaged probabilities, or of each run alone",
    )
    mbr_metrics: list[str] = key(
        [*PAIRWISE_METRICS], "mbr: metrics whose mean is maximized, of rouge1, rouge2 and rougeL"
    )
    num_return_sequences: int = key(
        1, "number of summaries of each document, with scores", at_least=1
    )
    long_documents: Literal["truncate", "split"] = key(
        "truncate",
        "truncate documents beyond data.max_document_tokens, or summarize them in windows",
    )
    precision: Literal["float32", "bfloat16"] = key(
        "float32", "precision of the weights in generation"
    )
    batch_size: int = key(64, "number of documents generated for at a time", at_least=1)
    heads_off: list[str] = key(
        [],
        "heads that are switched off when a finished run generates or is analysed, such as "
        "cross.0.3 (site, layer and head, from zero)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_beam_groups()
        self._check_candidates()
        self._check_mbr_metrics()
        self._check_num_return_sequences()

    def _check_beam_groups(self) -> None:
        """Check that groups of diverse beam search share the beams evenly, and are penalized only
        if there are several."""
        if self.diversity_penalty and self.num_beam_groups == 1:
            raise ConfigError(
                f"generation.diversity_penalty={self.diversity_penalty} does nothing with "
                "generation.num_beam_groups=1; legal: 0"
            )
        beams_key = "mbr_num_beams" if self.strategy == "mbr" else "num_beams"
        num_beams = getattr(self, beams_key)
        if num_beams % self.num_beam_groups:
            raise ConfigError(
                f"generation.num_beam_groups={self.num_beam_groups} does not divide "
                f"generation.{beams_key}={num_beams}; legal: {legal_divisors(num_beams)}"
            )

    def _check_candidates(self) -> None:
        """Check that minimum Bayes risk has candidates to choose from."""
        if self.strategy == "mbr" and self.mbr_num_beams + self.mbr_num_samples < 2:
            raise ConfigError(
                f"generation.mbr_num_beams={self.mbr_num_beams} and "
                f"generation.mbr_num_samples={self.mbr_num_samples} leave nothing to choose from; "
                "legal: at least 2 together"
            )

    def _check_mbr_metrics(self) -> None:
        """Check that minimum Bayes risk has metrics to maximize, and knows each of them."""
        for name in self.mbr_metrics:
            if name not in PAIRWISE_METRICS:
                raise ConfigError(
                    f"generation.mbr_metrics={name} is not a metric of minimum Bayes risk; legal: "
                    f"{', '.join(PAIRWISE_METRICS)}"
                )
        if not self.mbr_metrics:
            raise ConfigError(
                "generation.mbr_metrics=[] leaves nothing to maximize; legal: one or more of "
                f"{', '.join(PAIRWISE_METRICS)}"
            )

    def _check_num_return_sequences(self) -> None:
        """Check that the strategy finds as many summaries of a document as are returned."""
        if self.num_return_sequences > 1 and self.long_documents == "split":
            raise ConfigError(
                f"generation.num_return_sequences={self.num_return_sequences} does not go with "
                "generation.long_documents=split, which joins summaries; legal: 1"
            )
        found = {
            "greedy": 1,
            "beam": self.num_beams,
            "sample": self.num_return_sequences,  # draws as many as are returned
            "mbr": self.mbr_num_beams + self.mbr_num_samples,
        }[self.strategy]
        if self.num_return_sequences > found:
            raise ConfigError(
                f"generation.num_return_sequences={self.num_return_sequences} is more than "
                f"generation.strategy={self.strategy} finds; legal: at most {found}"
            )
