from pathlib import Path

import pytest

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.errors import ConfigError
from headcount.evaluation.signature import rouge_of_signature, signature

FILE = Path("run/scores.json")


def test_signature_names_package_version_and_rules() -> None:
    rest = "tokenizer:rouge-score|stemmer:porter|sentences:split-3|bootstrap:1000|seed:0"
    several = EvaluationConfig(references="max")
    assert (
        signature([["a", "b"], ["c", "d"]], several)
        == f"rouge-score:0.1.2|nrefs:2|references:max|{rest}"
    )
    assert (
        signature([["a", "b"], ["c"]], EvaluationConfig())
        == f"rouge-score:0.1.2|nrefs:var|references:mean|{rest}"
    )


def test_tokenizer_and_sentences_are_in_the_signature() -> None:
    def of(**changes: str) -> str:
        return signature([["a"]], EvaluationConfig(**changes))

    assert "|tokenizer:unicode|stemmer:porter|sentences:split-3|" in of(tokenizer="unicode")
    assert "|tokenizer:character|stemmer:none|" in of(tokenizer="character")
    assert "|sentences:newline|" in of(sentences="newline")


def test_a_signature_gives_the_scorer_back() -> None:
    evaluation = EvaluationConfig(
        references="max", tokenizer="unicode", sentences="newline", metrics=["bleu"]
    )
    rouge = rouge_of_signature(signature([["a"]], evaluation), FILE)
    assert (rouge.rule, rouge.tokenizer, rouge.sentences) == ("max", "unicode", "newline")
    earlier = "rouge-score:0.1.2|nrefs:1|references:mean|stemmer:porter|sentences:newline|seed:0"
    assert rouge_of_signature(earlier, FILE).tokenizer == "rouge-score"


@pytest.mark.parametrize("sentences", ["split", "split-3", "split-31"])
def test_a_signature_of_any_splitter_gives_the_scorer_back(sentences: str) -> None:
    """Run folders of earlier versions keep their signatures."""
    text = f"rouge-score:0.1.2|nrefs:1|references:mean|tokenizer:unicode|sentences:{sentences}"
    assert rouge_of_signature(text, FILE).sentences == "split"


@pytest.mark.parametrize(
    "edited", ["", "mine", "rouge:1|references", "references:median|sentences:split"]
)
def test_an_edited_signature_is_rejected_by_name(edited: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rouge_of_signature(edited, FILE)
    assert str(caught.value).startswith(f"run/scores.json: signature={edited}")
    is_named = "; legal: " in str(caught.value) or "expected one of ['mean'" in str(caught.value)
    assert is_named and "\n" not in str(caught.value)


def test_sacrebleus_signatures_follow() -> None:
    evaluation = EvaluationConfig(metrics=["rouge", "bleu", "chrf"], bleu_tokenizer="zh")
    rouge, bleu, chrf = signature([["a", "b"]], evaluation).split(" ")
    assert rouge == signature([["a", "b"]], EvaluationConfig())
    assert bleu.startswith("BLEU|nrefs:2|case:mixed|eff:no|tok:zh|smooth:exp|version:2.")
    assert chrf.startswith("chrF|nrefs:2|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.")
    assert "|nrefs:var|" in signature([["a", "b"], ["c"]], evaluation).split(" ")[1]
