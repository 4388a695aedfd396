import re

import pytest

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.report import ScoreReport, random_derangement, report
from headcount.evaluation.signature import signature

TOPICS = [f"topic{number} thing{number} place{number}" for number in range(40)]
DOCUMENTS = [f"It is about {topic}. They met there. Nothing else was said." for topic in TOPICS]
REFERENCES = [[f"They talk of {topic}."] for topic in TOPICS]
READS = [f"They spoke about {topic}." for topic in TOPICS]


def judge(
    summaries: list[str], cut: list[bool] | None = None, shuffle_sources: bool = False
) -> ScoreReport:
    evaluation = EvaluationConfig(baselines=["lead-1"])
    cut = cut or [False] * len(summaries)
    return report(
        summaries,
        cut,
        DOCUMENTS,
        REFERENCES,
        evaluation=evaluation,
        shuffle_sources=shuffle_sources,
    )


def test_a_model_that_reads_raises_no_alarm() -> None:
    judged = judge(READS)
    assert judged.alarms == []
    assert [system.name for system in judged.systems] == ["model", "lead-1", "human"]
    assert judged.signature == signature(REFERENCES, EvaluationConfig())


def test_shuffled_sources_are_scored_on_request() -> None:
    model, shuffled, *_ = judge(READS, shuffle_sources=True).systems
    assert shuffled.name == "shuffled"
    assert shuffled.mean("rouge1") < model.mean("rouge1") - 10
    assert shuffled.mean("novel_2grams") == pytest.approx(
        model.mean("novel_2grams")
    )  # of the document it was made from


@pytest.mark.parametrize(
    ("summaries", "cut", "message"),
    [
        (
            ["They talk of it."] * 40,
            None,
            "the same summary is generated for 40 of 40 documents: They talk of it.",
        ),
        (
            READS[1:] + READS[:1],
            None,
            "no dependence of the summaries on the documents could be shown with 40 examples: "
            "ROUGE-1 is ",
        ),
        ([*READS[:-2], "", " "], None, "2 of 40 summaries are empty"),
        (
            [text + " and so on" * 5 for text in READS],
            None,
            "too long: 21 words on average, the references have 6",
        ),
        (READS, [True] * 5 + [False] * 35, "12 % of the summaries were cut"),
        (
            [text + f" it is {text}" for text in READS],
            None,
            "repeat themselves: 33 % of their trigrams repeat, 0 %",
        ),
        (
            [f"{topic.split()[0]} {topic.split()[1]}" for topic in TOPICS],
            None,
            "too short: 2 words on average, the references have 6",
        ),
        (
            [f"a summary about {topic.split()[0]}" for topic in TOPICS],
            None,
            "below the beginning of the documents: ROUGE-L is 20.00, and 50.00 of lead-1",
        ),
    ],
)
def test_alarms(summaries: list[str], cut: list[bool] | None, message: str) -> None:
    assert sum(message in alarm for alarm in judge(summaries, cut).alarms) == 1


def test_too_few_examples_to_show_a_dependence_are_counted() -> None:
    """The interval says that these do not show independence either."""
    texts = [READS[0], *["They talk."] * 3]
    judged = report(
        texts, [False] * 4, DOCUMENTS[:4], REFERENCES[:4], evaluation=EvaluationConfig()
    )
    [alarm] = [each for each in judged.alarms if "dependence" in each]
    assert "could be shown with 4 examples: ROUGE-1 is " in alarm
    interval = re.search(r"a difference of \+[\d.]+ \[([+-][\d.]+), ([+-][\d.]+)\]$", alarm)
    assert interval and float(interval[1]) <= 0 < float(interval[2])


def test_empty_summaries_do_not_hide_equal_ones() -> None:
    alarms = judge(["", " ", "", "", *["They talk."] * 3, *READS[7:]]).alarms
    assert "4 of 40 summaries are empty" in alarms
    assert "the same summary is generated for 3 of 40 documents: They talk." not in alarms
    alarms = judge([*[""] * 10, *["They talk."] * 9, *READS[19:]]).alarms
    assert "10 of 40 summaries are empty" in alarms
    assert "the same summary is generated for 9 of 40 documents: They talk." in alarms


def test_summaries_that_are_all_empty_are_one_alarm() -> None:
    alarms = judge([""] * 40).alarms
    assert "40 of 40 summaries are empty" in alarms
    assert not any("the same summary" in alarm for alarm in alarms)


def test_what_the_references_do_themselves_is_no_alarm() -> None:
    same = [["Nothing was said."]] * 40
    judged = report(
        ["Nothing was said."] * 40,
        [False] * 40,
        DOCUMENTS,
        same,
        evaluation=EvaluationConfig(baselines=[]),
    )
    assert not any("the same summary" in alarm for alarm in judged.alarms)


def test_odd_texts_are_judged() -> None:
    odd = [
        "one",
        "🙂🙂",
        "שלום עולם\nמה שלומך",
        "\x00 nul",
        "... --",
        "\u2028",
        "word. " * 10_000,
        "a\n" * 1000,
    ]
    evaluation = EvaluationConfig(
        baselines=["lead-1", "longest-2", "random-2", "oracle-2"], unit="line"
    )
    short = [text[:200] for text in odd]
    judged = report(short, [False] * 8, odd, [[text] for text in short], evaluation=evaluation)
    for system in judged.systems[:-1]:
        assert 0 <= system.mean("rouge1") <= 100 and system.mean("words") > 0


@pytest.mark.parametrize("count", [2, 3, 100])
def test_each_example_gets_another(count: int) -> None:
    others = random_derangement(count)
    assert sorted(others) == list(range(count)) and all(
        other != place for place, other in enumerate(others)
    )


def test_one_example_raises_no_alarm_about_documents() -> None:
    evaluation = EvaluationConfig(baselines=["lead-1"])
    judged = report(["They spoke."], [False], DOCUMENTS[:1], REFERENCES[:1], evaluation=evaluation)
    assert not any("documents" in alarm for alarm in judged.alarms)


SCRIPTS = {  # a sentence with a place for a number, and its share of letters that are dropped
    "Cyrillic": "Она купила книгу {} сегодня",
    "Greek": "Αγόρασε το βιβλίο {} σήμερα",
    "Arabic": "اشترت الكتاب {} اليوم",
    "Devanagari": "उसने किताब {} खरीदी",
    "Thai": "เธอซื้อหนังสือ {} วันนี้",
    "Chinese": "她今天买了第{}本书",
    "Japanese": "彼女は本{}を買った",
    "Hangul": "그녀는 오늘 책 {} 을 샀다",
    "Hebrew": "היא קנתה ספר {} היום",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_dropped_text_is_the_one_alarm(script: str) -> None:
    """Of other scripts ROUGE sees the numbers only: no alarm may be based on that."""
    texts = [SCRIPTS[script].format(number) for number in range(40)]
    documents = [f"{text}. {text}!" for text in texts]
    evaluation = EvaluationConfig(baselines=["lead-1"])

    def judge_scripts(evaluation: EvaluationConfig) -> ScoreReport:
        # A model that copies the sentence of another document, and the words of its own.
        return report(
            texts[1:] + texts[:1],
            [False] * 40,
            documents,
            [[text] for text in texts],
            evaluation=evaluation,
        )

    [alarm] = judge_scripts(evaluation).alarms
    assert "evaluation.tokenizer=rouge-score drops them; unicode keeps them" in alarm
    share = float(alarm.split(" % of the letters")[0].split()[-1])
    assert share > 75
    unicode = judge_scripts(EvaluationConfig(baselines=["lead-1"], tokenizer="unicode"))
    assert not any("drops them" in alarm for alarm in unicode.alarms)
    assert unicode.systems[0].mean("rouge1") > 50


@pytest.mark.parametrize(
    ("text", "is_alarm"),
    [
        ("The naïve waiter of the old and small café on the long street by the river", True),
        ("Only ASCII words of one line", False),
        ("Die Größe der Straße", True),
        ("quoted “text” – with marks… and 🙂", False),
    ],
)
def test_more_than_one_percent_of_dropped_text_is_an_alarm(text: str, is_alarm: bool) -> None:
    evaluation = EvaluationConfig(baselines=[])
    judged = report([text], [False], [text], [[text]], evaluation=evaluation)
    assert any("ROUGE ignores" in alarm for alarm in judged.alarms) == is_alarm


def test_a_few_dropped_letters_are_no_alarm() -> None:
    text = "one café in " + "many plain english words " * 10
    evaluation = EvaluationConfig(baselines=[])
    judged = report([text], [False], [text], [[text]], evaluation=evaluation)
    assert judged.alarms == []


def alarms_of(texts: list[str], **changes: object) -> list[str]:
    evaluation = EvaluationConfig(baselines=[], **changes)
    references = [[text] for text in texts]
    return report(texts, [False] * len(texts), texts, references, evaluation=evaluation).alarms


@pytest.mark.parametrize("changes", [{"metrics": ["bleu"]}, {"select_by": "bleu"}])
@pytest.mark.parametrize(
    ("script", "helps"),
    [("Chinese", ["zh", "char"]), ("Japanese", ["char"]), ("Thai", ["char"]), ("Hangul", None)],
)
def test_bleu_of_a_script_without_blanks_is_an_alarm(
    script: str, helps: list[str] | None, changes: dict[str, object]
) -> None:
    """It would be about 0: a sentence would be one word. The values that are named do help."""
    texts = [SCRIPTS[script].format(number) for number in range(40)]
    for tokenizer in ("13a", "intl", "none", "zh", "char"):
        alarms = alarms_of(texts, tokenizer="unicode", bleu_tokenizer=tokenizer, **changes)
        found = [alarm for alarm in alarms if "BLEU" in alarm]
        assert len(found) == (helps is not None and tokenizer not in helps)
        for alarm in found:
            assert f"evaluation.bleu_tokenizer={tokenizer} does not separate; " in alarm
            assert "char make" in alarm
    assert not any("BLEU" in alarm for alarm in alarms_of(texts, tokenizer="unicode"))


@pytest.mark.parametrize("tokenizer", ["rouge-score", "unicode", "character"])
def test_references_of_symbols_are_an_alarm(tokenizer: str) -> None:
    texts = ["🙂 🎉", "→ ☃", *["They talk of it."] * 8]
    [alarm] = [alarm for alarm in alarms_of(texts, tokenizer=tokenizer) if "ROUGE is 0" in alarm]
    assert alarm.startswith("20.0 % of the references have no letter or digit: ")
    assert alarm.endswith("; evaluation.metrics=[rouge,chrf] compares them")
    alarms = alarms_of(texts, tokenizer=tokenizer, metrics=["rouge", "chrf"])
    assert sum(alarm.endswith("; chrF compares them") for alarm in alarms) == 1


def test_no_alarm_is_based_on_symbols() -> None:
    texts = ["🙂 🎉", "→ ☃"] * 10
    [alarm, *others] = alarms_of(texts)
    assert "no letter or digit" in alarm
    assert not any("documents" in other for other in others)
