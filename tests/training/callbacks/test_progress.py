import re

import pytest

from headcount.commands import train as run


def test_a_line_at_each_validation_and_a_bar_at_the_end(
    small, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small()
    run.train(config)
    said = capsys.readouterr().out
    figures = r"loss \d\.\d\d  [\d,]+ tokens/s; validation loss \d\.\d\d  rouge1 \d+\.\d\d  rouge2 .* rougeLsum \S+"
    assert [step for step in (2, 4) if re.search(f"^step {step}: {figures}$", said, re.M)] == [
        2,
        4,
    ]
    assert "training: " in said and " parameters\n" in said
    assert re.search(r"^training .* 4/4 .*tokens/s", said, re.M)
    assert re.search(r"^writing summaries .* 12/12 .* summaries/s", said, re.M)
