"""The signature of scores: all settings of their computation as one text, like the signatures of
sacrebleu (Post 2018).

Scores are comparable if their signatures are equal.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from headcount.config.load import from_dict
from headcount.config.sections.evaluation import EvaluationConfig
from headcount.errors import ConfigError
from headcount.evaluation.bootstrap import RESAMPLES, SEED
from headcount.evaluation.corpus_metrics import make_corpus_metrics
from headcount.evaluation.rouge import Rouge
from headcount.evaluation.sentences import SPLITTER_VERSION


def rouge_of_signature(signature: str, file: Path) -> Rouge:
    """Return the ROUGE scorer that a signature describes.

    A signature of an early version has no tokenizer, which was always ``rouge-score``, or no
    version of the sentence splitter, which then is the present one all the same.

    Args:
        signature: of the scores.
        file: it was read from, for messages.

    Raises:
        ConfigError: it describes none, as in a ``scores.json`` that was edited by hand.
    """
    where = f"{file}: signature={signature}"
    rouge, *_ = signature.split(" ")
    try:
        parts = dict(part.split(":", 1) for part in rouge.split("|"))
        sentences, _, _ = parts["sentences"].partition("-")
        settings = {"references": parts["references"], "sentences": sentences}
    except (KeyError, ValueError):
        raise ConfigError(
            f"{where} is no signature of scores; legal: as train or evaluate has written it, with "
            "parts as references:mean|tokenizer:unicode|sentences:split"
        ) from None

    settings["tokenizer"] = parts.get("tokenizer", "rouge-score")
    config = from_dict({"evaluation": settings}, where)
    return Rouge.from_config(config.evaluation)


def signature(references: Sequence[Sequence[str]], evaluation: EvaluationConfig) -> str:
    """Return the signature of ROUGE, followed by those of the corpus metrics, separated by blanks.

    Args:
        references: references of each example, whose number is part of the signature.
        evaluation: the ``evaluation`` section of the config.
    """
    # What is no key of the config.
    counts = {len(texts) for texts in references}
    number = min(counts) if len(counts) == 1 else "var"
    stemmer = "none" if evaluation.tokenizer == "character" else "porter"
    sentences: str = evaluation.sentences
    if sentences == "split":
        sentences += f"-{SPLITTER_VERSION}"

    # ROUGE, then the corpus metrics by sacrebleu.
    rouge = "|".join(
        [
            f"rouge-score:{version('rouge-score')}",
            f"nrefs:{number}",
            f"references:{evaluation.references}",
            f"tokenizer:{evaluation.tokenizer}",
            f"stemmer:{stemmer}",
            f"sentences:{sentences}",
            f"bootstrap:{RESAMPLES}",
            f"seed:{SEED}",
        ]
    )
    corpus_metrics = make_corpus_metrics(evaluation).values()
    return " ".join([rouge, *(metric.signature(references) for metric in corpus_metrics)])
