import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from headcount import cli
from headcount.commands import attention as command
from headcount.commands.attention import attention
from headcount.config.load import sort_texts
from headcount.errors import ConfigError
from headcount.runs.folder import load_run_config
from tests.model.builds import ARCHITECTURES

TEXT = "Ada: Good day.\nBen: I would like a pear."


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, which are not rendered."""
    figures: list[Figure] = []

    def save(figure: Figure, path: Path, dpi: int) -> None:
        figures.append(figure)
        path.touch()

    monkeypatch.setattr(command, "save_figure", save)
    return figures


def call(run: Path, text: str | None = None, *overrides: str, **options: Any) -> None:
    attention(run, load_run_config(run, list(overrides)), text, **options)


def test_pictures_and_arrays_of_a_text(finished_run: Path, tmp_path: Path, capsys) -> None:
    outs = [tmp_path / f"a.{kind}" for kind in ("png", "svg", "pdf", "npz")]
    call(finished_run, TEXT, outs=outs)
    starts = [out.read_bytes()[:4] for out in outs]
    assert starts == [b"\x89PNG", b"<?xm", b"%PDF", b"PK\x03\x04"]
    summary, *files = capsys.readouterr().out.splitlines()
    assert summary.startswith("summary: ")
    # The pictures are of one block, the arrays of all.
    assert files == [*[f"cross.0: {out}" for out in outs[:3]], f"all blocks: {outs[3]}"]
    with np.load(outs[-1], allow_pickle=False) as arrays:
        assert arrays["cross.0"].shape[0] == 2

    # The same text gives the same file.
    call(finished_run, TEXT, outs=[tmp_path / "b.svg"])
    assert (tmp_path / "b.svg").read_bytes() == outs[1].read_bytes()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_drawn_without_a_block_is_attention_to_the_document(
    architecture: str, finished_run_of, drawn: list[Figure]
) -> None:
    """Its rows are the written tokens, and each sums to one."""
    folder = finished_run_of(*ARCHITECTURES[architecture])
    call(folder)
    assert (folder / "attention.png").exists()
    [figure] = drawn
    assert figure.get_supxlabel() == "document" and figure.get_supylabel() == "summary"
    panel = figure.axes[0]
    weights = np.asarray(panel.images[0].get_array())
    assert np.allclose(weights.sum(1), 1, atol=1e-5)
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert len(names) == len(weights)
    is_cut = len(names) == load_run_config(folder, []).generation.max_tokens
    assert is_cut or names[-1] == "(end)"


def test_a_block_by_name(finished_run: Path, drawn: list[Figure]) -> None:
    call(finished_run, TEXT, block="encoder.0")
    weights = np.asarray(drawn[0].axes[0].images[0].get_array())
    assert weights.shape[0] == weights.shape[1]
    assert drawn[0].get_supylabel() == "encoder.0: queries"
    call(finished_run, TEXT, block="decoder.0")
    panel = drawn[1].axes[0]
    assert np.allclose(np.triu(np.asarray(panel.images[0].get_array()), 1), 0)
    assert panel.get_yticklabels()[0].get_text() == "(start)"
    with pytest.raises(ConfigError, match=r"--block encoder.1: .*did you mean encoder.0\?"):
        call(finished_run, TEXT, block="encoder.1")


def test_an_example_by_number_and_by_id(finished_run: Path, drawn: list[Figure], capsys) -> None:
    lines = (finished_run / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]

    def keys(figure: Figure) -> str:
        return "".join(label.get_text() for label in figure.axes[-2].get_xticklabels())

    for number, row in ((0, rows[0]), (3, rows[3])):
        call(finished_run, example=str(number))
        call(finished_run, example=row["id"])
        expected = row["document"].strip().replace("\n", "\\n")
        assert keys(drawn[-1]) == keys(drawn[-2]) == f"{expected}(end)"
        # The summary is that of the run.
        assert f"summary: {row['summary']}\n" in capsys.readouterr().out
    call(finished_run)
    shortest = min((row["document"] for row in rows), key=len)
    assert keys(drawn[-1]) == f"{shortest.strip()}(end)".replace("\n", "\\n")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TEXT, {"outs": [Path("a.gif")]}, "--out a.gif: an unknown format; legal: png, svg, pdf"),
        (TEXT, {"example": "1"}, "--example 1: given together with a text; legal: one of them"),
        (None, {"example": "12"}, "--example 12: no such example in .*legal: 0 to 11, or an id"),
        (" \n", {}, "the text is blank; legal: a document"),
    ],
)
def test_mistakes(
    text: str | None, options: dict[str, Any], message: str, finished_run: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        call(finished_run, text, **options)


def test_an_export_has_no_examples(finished_run: Path) -> None:
    (finished_run / "predictions.jsonl").unlink()
    with pytest.raises(
        ConfigError, match="no documents in it .*legal: a text, as in headcount at"
    ):
        call(finished_run)


def test_a_text_may_have_an_equals_sign(
    monkeypatch: pytest.MonkeyPatch, finished_run: Path
) -> None:
    assert sort_texts(["x=1 holds", "seed=1", "model.num_heads=2", "seeds=3"]) == (
        ["x=1 holds", "seeds=3"],
        ["seed=1", "model.num_heads=2"],
    )
    seen: dict[str, Any] = {}

    def take(run: Path, config: Any, text: str, **options: Any) -> None:
        seen.update(options, text=text, max_tokens=config.generation.max_tokens)

    monkeypatch.setattr(command, "attention", take)
    words = ["attention", str(finished_run), "a = b", "generation.max_tokens=7", "--out", "a.svg"]
    monkeypatch.setattr(sys, "argv", ["headcount", *words, "--block", "cross.0"])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 0
    expected = {"text": "a = b", "max_tokens": 7, "block": "cross.0", "example": None}
    assert seen == {**expected, "outs": [Path("a.svg")]}
