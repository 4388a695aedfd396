from pathlib import Path

import pytest
from matplotlib.figure import Figure

from headcount.plot_style import save_figure


def figure(title: str = "a name") -> Figure:
    drawn = Figure(figsize=(1, 1))
    drawn.subplots().set_title(title)
    return drawn


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_a_figure_is_written_as_the_same_bytes(tmp_path: Path, kind: str) -> None:
    for name in ("a", "b"):
        save_figure(figure(), tmp_path / f"{name}.{kind}")
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_a_figure_that_fails_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.svg"
    save_figure(figure(), path)
    before = path.read_bytes()

    def fail(self: Figure, target: Path, **_: object) -> None:
        Path(target).write_text("half")
        raise OSError("no room")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="no room"):
        save_figure(figure("another"), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.svg"]
