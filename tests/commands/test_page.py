import json
import re
from pathlib import Path

import numpy as np
import pytest

from headcount.commands.page import choose_short_examples, page, sort_runs
from headcount.commands.summarize import summarize
from headcount.commands.train import train
from headcount.config.load import load
from headcount.errors import ConfigError
from headcount.runs.folder import config_file
from tests.model.builds import ARCHITECTURES


def read_page(path: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text())[1])


@pytest.fixture
def run(finished_run_of) -> Path:
    return finished_run_of(name="run=1")


def test_a_page_of_a_run_and_of_a_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page([str(run)], documents=3, heads_off=False)
    content = read_page(run / "page.html")
    assert f"page: {run / 'page.html'}" in capsys.readouterr().out
    assert [len(each["documents"]) for each in (content, *content["runs"])] == [3, 3]
    assert content["runs"][0]["name"] == "run=1" and content["documents"][0]["references"]

    # The summaries of the page are those of the command.
    Path("in.jsonl").write_text(
        '{"id": "<b>", "text": "Ada: Good day."}\n\n{"text": "Ben: A pear."}\n'
    )
    page(
        [str(run), "in.jsonl", "generation.strategy=beam"], documents=9, out=tmp_path / "out.html"
    )
    content = read_page(tmp_path / "out.html")
    capsys.readouterr()
    summarize(run, load([config_file(run)], ["generation.strategy=beam"]), "in.jsonl")
    expected = [json.loads(line)["summary"] for line in capsys.readouterr().out.splitlines()]
    assert [each["summary"] for each in content["runs"][0]["documents"]] == expected
    assert [each["id"] for each in content["documents"]] == ["<b>", "1"]


def test_summaries_without_a_head_are_those_of_summarize(
    small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For each head, layer and site: the page's precomputed summaries, and those of the command
    with the same heads off."""
    run = tmp_path / "run"
    train(small(f"run.folder={run}", "optimizer.learning_rate=0.05", "trainer.max_steps=60"))
    Path("in.txt").write_text("Ada: Good day.\nBen: I would like a pear.\n")
    page([str(run), "in.txt"], documents=2)
    [described] = read_page(run / "page.html")["runs"]
    written = [each["summary"] for each in described["documents"]]

    changed = 0
    for number, heads in enumerate(described["sets"]):
        capsys.readouterr()
        off = f"generation.heads_off=[{','.join(heads)}]"
        summarize(run, load([config_file(run)], [off]), "in.txt")
        expected = capsys.readouterr().out.splitlines()
        assert [each["off"][number][0] for each in described["documents"]] == expected, heads
        changed += expected != written
    assert changed > 1

    # A page of the model without heads shows their summaries, too.
    page([str(run), "in.txt", off], documents=2, out=tmp_path / "off.html", heads_off=False)
    [without] = read_page(tmp_path / "off.html")["runs"]
    assert [each["summary"] for each in without["documents"]] == expected


def test_mistakes_are_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    for arguments, message in (
        ([], "not a run folder"),
        (["nothing"], "nothing: not a run folder"),
        (["x" * 300], "not a run folder"),
        ([str(run)] * 3, "a third run"),
        ([str(run), "a.txt", "b.txt"], "b.txt: neither"),
        ([str(run), "a.txt"], "a.txt: No such file"),
        ([str(run), "empty.txt"], "no documents in it"),
        ([str(tmp_path)], "config.yaml"),
        ([str(run), "model.num_heads=1"], "model.num_heads=1"),
        ([str(run), "generation.num_beams=0"], "generation.num_beams=0"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            page(arguments, documents=2)
    assert not (run / "page.html").exists()


def test_nothing_is_written_through_a_link(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.html"
    outside.write_text("mine")
    (run / "page.html").symlink_to(outside)
    with pytest.raises(ConfigError, match=r"page.html: leads out of"):
        page([str(run)], documents=2)
    assert outside.read_text() == "mine"


def test_runs_are_folders_whatever_their_names_hold(run: Path) -> None:
    assert sort_runs([str(run), "notes.txt", "seed=1"]) == ([run], "notes.txt", ["seed=1"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_training_ends_with_a_page(architecture: str, small, tmp_path: Path) -> None:
    train(
        small(
            *ARCHITECTURES[architecture], f"run.folder={tmp_path / 'run'}", "tracking.mode=offline"
        )
    )
    content = read_page(tmp_path / "run" / "attention.html")
    ids = [each["id"] for each in content["documents"]]
    assert len(ids) == 5 and all(each.startswith("validation-") for each in ids)
    assert (
        "off" not in content["runs"][0]["documents"][0] and content["documents"][0]["references"]
    )
    [logged] = (tmp_path / "run").glob("wandb/offline-run-*/files/media/html/attention_*.html")
    assert logged.read_bytes() == (tmp_path / "run" / "attention.html").read_bytes()


def test_examples_of_the_page_are_not_long() -> None:
    lengths = np.array([5000, 10, 600, 20, 512, 30, 40, 513, 50])
    chosen = choose_short_examples(lengths)
    assert chosen == choose_short_examples(lengths)
    assert set(chosen) <= {1, 3, 4, 5, 6, 8} and len(chosen) == 5
    assert choose_short_examples(np.array([9000, 700, 800])) == [0, 1, 2]
    long = np.array([9000, 700, 800, 600, 900, 1000, 5000])
    assert choose_short_examples(long) == [1, 2, 3, 4, 5]
