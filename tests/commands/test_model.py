import io

from rich.console import Console

from headcount.commands.model import describe
from headcount.config.load import load
from headcount.config.sections.model_attention import ATTENTION_SITES
from tests.model.builds import ARCHITECTURES


def described(*changes: str) -> str:
    text = io.StringIO()
    describe(load([], list(changes)), Console(file=text, width=100))
    return text.getvalue()


def test_heads_and_parameters_by_place() -> None:
    output = described(
        "model.num_heads=8",
        "model.cross_heads=2",
        "model.num_kv_heads=1",
        "data.max_summary_tokens=64",
    )
    lines = {
        line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:-1]]
        for line in output.splitlines()
        if "│" in line
    }
    assert lines["encoder"][:4] == ["3", "8", "1", "32"] and lines["cross"][:4] == [
        "3",
        "2",
        "1",
        "128",
    ]
    numbers = {name: int(cells[-1].replace(",", "")) for name, cells in lines.items()}
    assert numbers["parameters"] == numbers["in embeddings and output"] + numbers["elsewhere"]
    assert numbers["in embeddings and output"] == 8000 * 256
    assert numbers["cache bytes per summary token"] == 3 * 2 * 32 * 4
    assert "512 document and 64 summary tokens" in output


def test_every_architecture_is_described() -> None:
    for architecture, changes in ARCHITECTURES.items():
        output = described(*changes)
        for site in ("encoder", "decoder", "cross"):
            assert (site in output) == (site in ATTENTION_SITES[architecture])


def test_heads_by_layer_are_listed() -> None:
    output = described("model.encoder_heads=[8,4,1]", "model.cross_kv_heads=[1,4,2]")
    [encoder] = [line for line in output.splitlines() if "encoder" in line and "│" in line]
    cells = [cell.strip() for cell in encoder.split("│")[2:-1]]
    assert cells[:4] == ["3", "8, 4, 1", "8, 4, 1", "32, 64, 256"]
    [cross] = [line for line in output.splitlines() if "cross" in line and "│" in line]
    assert [cell.strip() for cell in cross.split("│")[2:-1]][:4] == ["3", "4", "1, 4, 2", "64"]
