import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headcount import cli
from headcount.config.schema import Config
from tests.conftest import SMALL, write_data

REPOSITORY = Path(__file__).parent.parent
NO_TORCH = """
import contextlib, io, json, sys
from headcount.cli import main

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["headcount", *arguments]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main()
        except SystemExit as exit:
            code = exit.code or 0
    imported = [name for name in ("torch", "pytorch_lightning") if name in sys.modules]
    print(json.dumps([arguments, code, imported]))
"""


def call(
    *args: str, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headcount", *args],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_help_and_errors_do_not_wait_for_torch() -> None:
    helps = [["--help"], ["train", "--help"], ["config", "--schema"]]
    mistakes = [
        ["train", "model.num_head=3"],  # no such key
        ["compare", "a", "b"],  # no such run folders
        ["ablate", "a"],  # no such study
    ]
    command = [sys.executable, "-c", NO_TORCH, json.dumps([*helps, *mistakes])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [*([each, 0, []] for each in helps), *([each, 2, []] for each in mistakes)]


@pytest.mark.parametrize("command", [c.callback.__name__ for c in cli.app.registered_commands])
def test_help_has_examples(command: str) -> None:
    done = CliRunner().invoke(cli.app, [command, "--help"])
    assert done.exit_code == 0
    assert "Examples" in done.output and f"headcount {command}" in done.output


@pytest.mark.parametrize(
    "args",
    [
        ["train", "configs/none.yaml"],
        ["train", "configs/docstrings.yaml", "model.num_heads=3"],
        ["config"],
        ["evaluate", "runs/none"],
        ["baselines", "configs/docstrings.yaml", "evaluation.baselines=[lead]"],
        ["compare", "runs/none", "runs/none"],
        ["summarize", "runs/none"],
        ["ablate", "experiments/none"],
        ["export", "runs/none", "exported"],
        ["report", "experiments/none"],
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", ["headcount", *args])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    out, err = capsys.readouterr()
    assert exit.value.code == 2
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("error: ")


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ("evaluate", [], {"others": [], "out": None}),
        ("evaluate", ["b-1"], {"others": [Path("b-1")], "out": None}),
        ("evaluate", ["b-1", "a-1", "--out", "c"], {"others": [Path("b-1"), Path("a-1")]}),
        ("summarize", [], {"others": [], "file": "-"}),
        ("summarize", ["in.txt"], {"others": [], "file": "in.txt"}),
        ("summarize", ["b-1", "in.txt"], {"others": [Path("b-1")], "file": "in.txt"}),
        ("summarize", ["b-1", "a-1"], {"others": [Path("b-1"), Path("a-1")], "file": "-"}),
    ],
)
def test_several_runs_on_the_command_line(
    command: str,
    args: list[str],
    expected: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Folders are runs, and the first gives the config; a file is what to summarize."""
    for name in ("a-1", "b-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(f"seed: {len(name)}\n")
    seen: dict[str, object] = {}

    def take(run: Path, config: Config, file: str = "", **options: object) -> None:
        seen.update(run=run, config=config, file=file, **options)

    module = importlib.import_module(f"headcount.commands.{command}")
    monkeypatch.setattr(module, command, take)
    words = ["headcount", command, "a-1", *args, "generation.max_tokens=7"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 0
    config = seen["config"]
    assert isinstance(config, Config) and config.seed == 3 and config.generation.max_tokens == 7
    assert seen["run"] == Path("a-1") and expected.items() <= seen.items()


def test_config_prints_what_it_resolves(tmp_path: Path) -> None:
    done = call("config", *SMALL, "seed=5")
    assert (
        done.returncode == 0 and "seed: 5\n" in done.stdout and "  num_heads: 2\n" in done.stdout
    )
    (tmp_path / "again.yaml").write_text(done.stdout)
    assert call("config", "again.yaml").stdout == done.stdout


def test_from_the_terminal_to_a_summary(tmp_path: Path) -> None:
    """Nothing stands on standard error, where a library would complain.

    The printed lines lead on. ``!headcount`` in a notebook inherits a matplotlib backend that only
    its kernel can load, which does not matter: the training draws.
    """
    data = write_data(tmp_path / "data")
    smoke = str(REPOSITORY / "configs" / "smoke.yaml")
    where = [
        f"data.path={data}",
        f"data.cache_dir={tmp_path / 'cache'}",
        "tokenizer.vocabulary_size=280",
    ]
    backend = "module://matplotlib_inline.backend_inline"
    done = call("train", smoke, *where, "trainer.accelerator=cpu", MPLBACKEND=backend)
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.splitlines()
    assert "run folder: runs/smoke-1" in printed
    sync = printed[-1]
    assert sync.startswith("to send this run to your W&B account: wandb sync ")
    assert list(Path(sync.split()[-1]).glob("*/*.wandb"))
    done = call("summarize", "runs/smoke-1", stdin="Ada: Good day.\nBen: Good day.\n")
    assert done.returncode == 0 and done.stdout.count("\n") == 2


@pytest.mark.parametrize("args", [["--version"], ["-h"], ["train", "-h"], ["config", "-h"]])
def test_version_and_short_help(args: list[str]) -> None:
    done = call(*args)
    assert done.returncode == 0 and done.stderr == ""
    assert ("headcount " if args == ["--version"] else "Usage: ") in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str) -> None:
    """The script that a shell reads, and what it then gets."""
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [str(Path(sys.executable).parent / "headcount")]  # which completion is for
    script = subprocess.run(
        [*command, "--show-completion", shell], env=environment, capture_output=True, text=True
    )
    assert script.returncode == 0 and "_HEADCOUNT_COMPLETE" in script.stdout, script.stderr
    asked = {
        "bash": {"COMP_WORDS": "headcount su", "COMP_CWORD": "1"},
        "zsh": {"_TYPER_COMPLETE_ARGS": "headcount su"},
        "fish": {
            "_TYPER_COMPLETE_ARGS": "headcount su",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
    }
    environment |= {"_HEADCOUNT_COMPLETE": f"complete_{shell}", **asked[shell]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "summarize" in done.stdout and "train" not in done.stdout


@pytest.mark.parametrize("args", [["config", "--schema"], ["--help"]], ids=" ".join)
def test_a_full_disk_under_standard_output(args: list[str]) -> None:
    """See also tests/faults/test_output.py."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "headcount", *args], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    error = done.stderr.decode().splitlines()[-1]
    assert error == "error: standard output: cannot be written: No space left on device"
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("args", [["config", "--schema"], ["--help"]], ids=" ".join)
def test_a_closed_pipe(args: list[str]) -> None:
    """As of ``| head -1``: the command ends, and complains about nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "headcount", *args], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert done.returncode == 1
    assert b"error" not in done.stderr.lower() and b"Traceback" not in done.stderr
