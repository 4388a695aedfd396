"""An export goes to a stand-in for the hub and comes back."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import headcount
from headcount import cli
from headcount.commands.export import CardFacts, export
from headcount.commands.push import push
from headcount.errors import ConfigError, RunError
from headcount.runs.folder import EXPORT_FILES
from headcount.runs.model_hub import find_model
from tests.runs.hub_server import Hub, hub_server


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server(monkeypatch, tmp_path / "hub-cache") as served:
        yield served


def test_a_pushed_run_summarizes_by_its_id(
    hub: Hub,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = CardFacts(license="mit", languages=["en"])
    push(finished_run, "owner/two-heads", facts, private=True)
    assert capsys.readouterr().out == f"pushed to {hub.address}/owner/two-heads\n"
    assert hub.private == {"owner/two-heads": True}
    files = hub.models["owner/two-heads"]
    assert set(files) == set(EXPORT_FILES)
    _, head, body = files["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "mit" and body.startswith("\n# two-heads\n")

    def type_in(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["headcount", *arguments])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        out, err = capsys.readouterr()
        assert exit.value.code == 0, err
        return out

    (tmp_path / "in.txt").write_text("Ada: Good day.\n")
    of_hub = type_in("summarize", "owner/two-heads", "in.txt")
    assert of_hub == type_in("summarize", str(finished_run), "in.txt")
    found = headcount.load_run("owner/two-heads").summarize(["Ada: Good day."])
    assert found == headcount.load_run(finished_run).summarize(["Ada: Good day."])

    # What the commands write is in the current folder, and the hub's cache stays as it is.
    cached = sorted((tmp_path / "hub-cache").rglob("*"))
    type_in("attention", "owner/two-heads", "Ada: Good day.")
    type_in("page", "owner/two-heads", "--documents", "1", "--no-heads-off")
    type_in("evaluate", "owner/two-heads")
    assert Path("attention.png").is_file()
    assert "two-heads" in Path("page.html").read_text(encoding="utf-8")
    scores = [
        json.loads((folder / "scores.json").read_text())["systems"]["model"]
        for folder in (Path("two-heads.evaluation-1"), finished_run)
    ]
    assert scores[0] == scores[1]
    assert sorted((tmp_path / "hub-cache").rglob("*")) == cached

    # What was downloaded is used when the hub is gone.
    asked = len(hub.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert (find_model(Path("owner/two-heads")) / "model.safetensors").is_file()
    assert len(hub.requests) == asked
    with pytest.raises(ConfigError, match="owner/none: no such folder; the hub: "):
        find_model(Path("owner/none"))


def test_an_export_is_pushed_as_it_is(hub: Hub, finished_run: Path, tmp_path: Path) -> None:
    export(finished_run, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("not for the hub")
    push(tmp_path / "out", "two-heads", CardFacts())
    files = hub.models["me/two-heads"]
    assert files == {name: (tmp_path / "out" / name).read_bytes() for name in EXPORT_FILES}
    with pytest.raises(ConfigError, match="^--license and --language: .*out is an export, which"):
        push(tmp_path / "out", "two-heads", CardFacts(license="mit"))


def test_without_a_token_nothing_is_asked(
    hub: Hub, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headcount.commands.push.get_token", lambda: None)
    with pytest.raises(ConfigError, match="no token .* legal: after hf auth login, or with HF_T"):
        push(finished_run, "owner/two-heads", CardFacts())
    assert hub.requests == []


def test_a_hub_that_refuses_is_one_line(
    hub: Hub, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="legal: OWNER/NAME"):
        push(finished_run, "a/b/c", CardFacts())
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(RunError, match=r"^owner/x: not pushed: .*401"):
        push(finished_run, "owner/x", CardFacts())
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RunError, match="^owner/x: not pushed: "):
        push(finished_run, "owner/x", CardFacts())


def test_an_unfinished_run_is_not_pushed(hub: Hub, finished_run: Path) -> None:
    (finished_run / "scores.json").unlink()
    with pytest.raises(ConfigError, match=r"no scores.json in it"):
        push(finished_run, "owner/x", CardFacts())
    assert hub.models == {}
