import pytest
from matplotlib.figure import Figure

from headcount.training.summarizer import Summarizer


@pytest.fixture
def unpictured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the picture of attention blank, which takes half of a small run."""
    monkeypatch.setattr(Summarizer, "draw", lambda *_, **__: Figure(figsize=(1, 1)))
