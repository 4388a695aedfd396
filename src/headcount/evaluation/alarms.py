"""Health alarms: what is wrong with summaries that a score does not say, in plain words."""

from collections import Counter
from collections.abc import Iterator, Sequence

from headcount.evaluation.bootstrap import RESAMPLES, differences
from headcount.evaluation.systems import FIGURES, System

SAME = 0.05  # share of one summary among all, beyond the references' own
LONG = 2.0  # times the references' length
CUT = 10.0  # % of summaries
REPEATED = 10.0  # % of trigrams, beyond the references' own


def alarms(
    model: System,
    shuffled: System,
    people: System,
    summaries: Sequence[str],
    references: Sequence[Sequence[str]],
) -> Iterator[str]:
    """Yield what is wrong, a line each; nothing where all is well.

    Args:
        model: what is judged.
        shuffled: the same model when each example has the document of another.
        people: the references.
        summaries: the model's texts.
        references: the references' texts.
    """
    total = len(summaries)
    empty = sum(not summary.strip() for summary in summaries)
    if empty:
        yield f"{empty:,} of {total:,} summaries are empty"

    text, number = Counter(summaries).most_common(1)[0]
    usual = Counter(texts[0] for texts in references).most_common(1)[0][1]
    if text.strip() and number > usual + SAME * total:
        yield f"one summary stands for {number:,} of {total:,} documents: {text}"

    column = [FIGURES.index("rouge1")]
    [gain] = differences(model.values[:, column], shuffled.values[:, column], RESAMPLES)
    # Nothing can be said about one example, or about texts that the scorer sees nothing of.
    is_measurable = len(model.values) > 1 and model.mean("rouge1") > 0
    if is_measurable and gain.low <= 0:
        yield (
            "the summaries do not depend on the documents: "
            f"ROUGE-1 is {model.mean('rouge1'):.2f}, and {shuffled.mean('rouge1'):.2f} when the "
            "documents are shuffled"
        )

    length, usual_length = model.mean("words"), people.mean("words")
    if length > LONG * usual_length:
        average = f"{length:.0f} words on average"
        yield f"the summaries run away: {average}, the references have {usual_length:.0f}"
    if model.mean("cut") > CUT:
        share = f"{model.mean('cut'):.0f} %"
        yield f"{share} of the summaries were cut at the longest that decoding allows"

    repeated, usually = model.mean("repeated_3grams"), people.mean("repeated_3grams")
    if repeated > usually + REPEATED:
        share = f"{repeated:.0f} % of their trigrams repeat"
        yield f"the summaries stutter: {share}, {usually:.0f} % in the references"
