import pytest

from headcount.config.schema import EvaluationConfig
from headcount.evaluation.report import Report, another_of_each, report
from headcount.evaluation.rouge import signature

TOPICS = [f"topic{number} thing{number} place{number}" for number in range(40)]
DOCUMENTS = [f"It is about {topic}. They met there. Nothing else was said." for topic in TOPICS]
REFERENCES = [[f"They talk of {topic}."] for topic in TOPICS]
READS = [f"They spoke about {topic}." for topic in TOPICS]


def judge(
    summaries: list[str], cut: list[bool] | None = None, shuffle_sources: bool = False
) -> Report:
    evaluation = EvaluationConfig(baselines=["lead-1"])
    cut = cut or [False] * len(summaries)
    return report(
        summaries,
        cut,
        DOCUMENTS,
        REFERENCES,
        evaluation=evaluation,
        seed=0,
        shuffle_sources=shuffle_sources,
    )


def test_a_model_that_reads_raises_no_alarm() -> None:
    judged = judge(READS)
    assert judged.alarms == []
    assert [system.name for system in judged.systems] == ["model", "lead-1", "human"]
    assert judged.signature == signature(REFERENCES, "mean")


def test_shuffled_sources_are_scored_on_request() -> None:
    model, shuffled, *_ = judge(READS, shuffle_sources=True).systems
    assert shuffled.name == "shuffled"
    assert shuffled.mean("rouge1") < model.mean("rouge1") - 10
    assert shuffled.mean("novel_2grams") == pytest.approx(
        model.mean("novel_2grams")
    )  # of the document it was made from


@pytest.mark.parametrize(
    ("summaries", "cut", "said"),
    [
        (
            ["They talk of it."] * 40,
            None,
            "one summary stands for 40 of 40 documents: They talk of it.",
        ),
        (READS[1:] + READS[:1], None, "do not depend on the documents: ROUGE-1 is"),
        ([*READS[:-2], "", " "], None, "2 of 40 summaries are empty"),
        (
            [text + " and so on" * 5 for text in READS],
            None,
            "run away: 21 words on average, the references have 6",
        ),
        (READS, [True] * 5 + [False] * 35, "12 % of the summaries were cut"),
        (
            [text + f" it is {text}" for text in READS],
            None,
            "stutter: 33 % of their trigrams repeat, 0 %",
        ),
    ],
)
def test_alarms(summaries: list[str], cut: list[bool] | None, said: str) -> None:
    assert sum(said in alarm for alarm in judge(summaries, cut).alarms) == 1


def test_what_the_references_do_themselves_is_no_alarm() -> None:
    same = [["Nothing was said."]] * 40
    judged = report(
        ["Nothing was said."] * 40,
        [False] * 40,
        DOCUMENTS,
        same,
        evaluation=EvaluationConfig(baselines=[]),
        seed=0,
    )
    assert not any("stands for" in alarm for alarm in judged.alarms)


def test_odd_texts_are_judged() -> None:
    odd = [
        "one",
        "🙂🙂",
        "שלום עולם\nמה שלומך",
        "\x00 nul",
        "... --",
        "\u2028",
        "word. " * 100_000,
        "a\n" * 1000,
    ]
    evaluation = EvaluationConfig(
        baselines=["lead-1", "longest-2", "random-2", "oracle-2"], unit="line"
    )
    short = [text[:200] for text in odd]
    judged = report(
        short, [False] * 8, odd, [[text] for text in short], evaluation=evaluation, seed=0
    )
    for system in judged.systems[:-1]:
        assert 0 <= system.mean("rouge1") <= 100 and system.mean("words") > 0


@pytest.mark.parametrize("count", [2, 3, 100])
def test_each_example_gets_another(count: int) -> None:
    others = another_of_each(count)
    assert sorted(others) == list(range(count)) and all(
        other != place for place, other in enumerate(others)
    )


@pytest.mark.parametrize("summaries", [["They spoke."], ["Они говорили."] * 12])
def test_what_cannot_be_measured_is_no_alarm(summaries: list[str]) -> None:
    """One example, or texts of which the scorer sees nothing: whether documents matter is unknown."""
    number = len(summaries)
    references = REFERENCES[:1] if number == 1 else [[f"Речь о {n}."] for n in range(number)]
    evaluation = EvaluationConfig(baselines=["lead-1"])
    judged = report(
        summaries, [False] * number, DOCUMENTS[:number], references, evaluation=evaluation, seed=0
    )
    assert not any("do not depend on the documents" in alarm for alarm in judged.alarms)
