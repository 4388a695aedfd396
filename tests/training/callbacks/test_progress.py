import re

import pytest

from headcount.commands import train as run


def test_a_line_at_each_validation_and_a_bar_at_the_end(
    small, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small()
    run.train(config)
    output = capsys.readouterr().out
    figures = r"loss \d\.\d\d  [\d,]+ tokens/s; validation loss \d\.\d\d  rouge1 \d+\.\d\d  rouge2 .* rougeLsum \S+"
    assert [step for step in (2, 4) if re.search(f"^step {step}: {figures}$", output, re.M)] == [
        2,
        4,
    ]
    assert "training: " in output and " parameters\n" in output
    assert re.search(r"^training .* 4/4 .*tokens/s", output, re.M)
    assert re.search(r"^writing summaries .* 12/12 .* summaries/s", output, re.M)
