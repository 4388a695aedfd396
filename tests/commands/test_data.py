import pytest

from headcount.commands.data import data


def test_a_data_set_is_prepared_and_described(small, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time from the cache
        data(small())
        printed = capsys.readouterr().out
        assert "train: 60 pairs" in printed and "test: 12 pairs" in printed
        folder = printed.splitlines()[-1].removeprefix("metrics and plot: ")
        with open(f"{folder}/audit.json") as file:
            assert file.read(1) == "{"
