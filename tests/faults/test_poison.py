"""Files from strangers run no code and lead nowhere."""

import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from headcount.commands.evaluate import evaluate
from headcount.commands.export import export
from headcount.commands.summarize import summarize
from headcount.commands.train import train
from headcount.config.load import load
from headcount.data.tokenizer import adopt_tokenizer
from headcount.errors import ConfigError
from headcount.experiments.grid import load_grid
from headcount.runs.checkpoint import load_checkpoint
from headcount.runs.folder import config_file
from tests.conftest import SMALL

pytestmark = pytest.mark.faults
REFUSED = "refused in one line; the code did not run"


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, how: Callable[..., Any], *arguments: object) -> None:
        self.call = how, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


CANARIES = {
    "os.system": Canary(os.system, "touch canary"),
    "exec": Canary(exec, "open('canary', 'w')"),
    "eval": Canary(eval, "open('canary', 'w')"),
    "pathlib": Canary(Path.touch, Path("canary")),
    "subprocess": Canary(subprocess.call, ["touch", "canary"]),
    "torch": Canary(torch.save, 1, "canary"),
    "shutil": Canary(shutil.copy, "in.txt", "canary"),
}


@pytest.fixture
def run() -> Path:
    """Train one run of small size."""
    Path("in.txt").write_text("Ada: Good day.\n")
    begin()
    return Path("run")


def begin() -> None:
    train(load([], [*SMALL, "data.path=data", "data.cache_dir=cache", "run.folder=run"]))


def place(content: bytes, path: Path) -> None:
    """Put a checkpoint in its place, with the sum that belongs to it."""
    path.write_bytes(content)
    path.with_name(f"{path.name}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}\n")


def saved(content: object, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def use(run: Path) -> None:
    summarize(run, load([config_file(run)], []), "in.txt")


def go_on(run: Path) -> None:
    train(load([config_file(run)], [f"run.folder={run}"]))


def score(run: Path) -> None:
    evaluate(run, load([config_file(run)], []))


def take_out(run: Path) -> None:
    export(run, Path("out"))


def refuses(action: Callable[..., object], *arguments: object, message: str = "") -> None:
    """Check that an action is refused in one line, and that no canary is there."""
    with pytest.raises(ConfigError, match=message) as error:
        action(*arguments)
    assert str(error.value).isprintable()
    assert not list(Path().rglob("canary"))


def test_code_in_a_checkpoint(run: Path, fault, some) -> None:
    whole, best = load_checkpoint(run, "best"), run / "checkpoints" / "best.ckpt"
    for canary in some([*CANARIES.values()]):
        for protocol in some(range(pickle.HIGHEST_PROTOCOL + 1)):
            place(pickle.dumps(canary, protocol), best)
            refuses(use, run)
            fault("a pickle that runs code as checkpoint", REFUSED)
        for zipped in (True, False):
            place(saved(canary, _use_new_zipfile_serialization=zipped), best)
            refuses(use, run)
            for key in some(
                [*whole, "hyper_parameters", "datamodule_hyper_parameters", "hparams_name"]
            ):
                place(
                    saved({**whole, key: {"a": canary}}, _use_new_zipfile_serialization=zipped),
                    best,
                )
                refuses(use, run)
                fault("code within a checkpoint", REFUSED)
        refuses(score, run)
        refuses(take_out, run)
        fault("evaluated, exported with code within the checkpoint", REFUSED, 2)
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), script)
    for content in (
        script.getvalue(),
        b"\x80\x05.",
        saved(3),
        saved([1]),
        saved({}),
        saved({**whole, "state_dict": 3}),
    ):
        place(content, best)
        refuses(use, run)
        fault("something else as checkpoint", "refused in one line")


def test_a_run_resumes_from_a_poisoned_checkpoint(run: Path, fault, some) -> None:
    """Also with a sum that fits, and from its beginning where no other checkpoint is left."""
    Path("victim").write_text("precious")
    whole = load_checkpoint(run, "last")
    absolute = f"{run.resolve()}/checkpoints"
    paths = {
        "best_model_path": f"{run}/checkpoints/../../victim",
        "last_model_path": f"{absolute}/../../victim",
    }
    kept = {
        **paths,
        "dirpath": absolute,
        "kth_best_model_path": f"{absolute}/../../victim",
        "best_k_models": {},
    }
    monitor = "'monitor': None, 'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1"
    key = (
        f"ModelCheckpoint{{{monitor}, 'train_time_interval': None}}"  # as Lightning names its own
    )
    poisons = {
        "code within the checkpoint": saved({**whole, "loops": CANARIES["os.system"]}),
        "a forged _instantiator": saved(
            {
                **whole,
                "hyper_parameters": {"_instantiator": "os.system", "command": "touch canary"},
                "hparams_name": "kwargs",
            }
        ),
        "paths that lead out of the run folder": saved(
            {**whole, "callbacks": {**whole["callbacks"], key: kept, "ModelCheckpoint": kept}}
        ),
    }
    for name, content in poisons.items():
        (run / "finished").unlink()
        (run / "checkpoints" / "previous.ckpt").unlink(missing_ok=True)
        place(content, run / "checkpoints" / "last.ckpt")
        go_on(run)
        assert (run / "finished").exists() and not list(Path().rglob("canary"))
        assert Path("victim").read_text() == "precious"
        fault(
            f"a run resumed from {name}",
            "the run is finished; no code ran, no other file was touched",
        )


def test_poison_in_an_export(run: Path, fault, some) -> None:
    export(run, Path("out"))
    whole = {file.name: file.read_bytes() for file in Path("out").iterdir()}
    assert not any(
        b"__reduce__" in content or content.startswith(b"\x80") for content in whole.values()
    )
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 10**9]}}).encode()
    weights = [
        pickle.dumps(CANARIES["os.system"]),
        saved(CANARIES["os.system"]),
        b"",
        len(header).to_bytes(8, "little") + header,
    ]
    weights += [(2**60).to_bytes(8, "little") + header, whole["model.safetensors"][:100]]
    for content in some(weights):
        (Path("out") / "model.safetensors").write_bytes(content)
        refuses(use, Path("out"))
        fault("something else as model.safetensors", REFUSED)


def test_poison_in_a_tokenizer(run: Path, fault, some) -> None:
    message = json.loads((run / "tokenizer.json").read_text())
    texts = [
        pickle.dumps(CANARIES["os.system"]),
        b"",
        b"{}",
        b"[]",
        b"!!python/object/apply:os.system ['touch canary']",
    ]
    texts += [
        json.dumps({**message, key: {"type": "os.system", "command": "touch canary"}}).encode()
        for key in message
    ]
    for text in some(texts):
        (run / "tokenizer.json").write_bytes(text)
        refuses(use, run)
        refuses(adopt_tokenizer, "run/tokenizer.json")
        refuses(take_out, run)
        fault("code or nonsense as tokenizer", REFUSED)


TAGS = [
    '!!python/object/apply:os.system ["touch canary"]',
    '!!python/object/new:os.system ["touch canary"]',
    '!!python/object/apply:subprocess.call [["touch", "canary"]]',
    "!!python/object/apply:pathlib.Path.touch [canary]",
    "!!python/object/apply:builtins.exec [\"open('canary', 'w')\"]",
    "!!python/object:pathlib.Path {canary: 1}",
    "!!python/name:os.system",
    "!!python/module:canary",
    "!!python/tuple [1]",
    "!!js/function 'touch'",
    "!canary x",
]


def test_object_tags_in_yaml(run: Path, fault, some) -> None:
    Path("study").mkdir()
    for tag in some(TAGS):
        for text in (
            tag,
            f"data: {tag}",
            f"data: {{path: {tag}}}",
            f"{tag} : 1",
            f"trainer: {{max_steps: {tag}}}",
        ):
            for file in (Path("x.yaml"), run / "config.yaml", Path("study") / "grid.yaml"):
                file.write_text(text)
            refuses(load, ["x.yaml"], [])
            refuses(load, [], [f"seed={tag}"])
            refuses(use, run)
            refuses(load_grid, Path("study"))
            refuses(begin)
            fault("object tags in a config, in a run's and in a study's YAML", REFUSED, 5)
        # A key of text takes the tag as text, which nothing parses.
        assert load([], [f"data.path={tag}"]).data.path == tag
        assert not Path("canary").exists()
    bomb = "a: &a [x]\n" + "\n".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]"
        for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    deep = [f"seed: {piece * 100_000}" for piece in ("[", "{a: ", "? ", "- ")] + [
        "? " * 100_000,
        "- " * 100_000,
    ]
    for text in (bomb, "data: &a {path: *a}", "data: {path: '${oc.env:HOME}'}", *some(deep)):
        Path("x.yaml").write_text(text)
        refuses(load, ["x.yaml"], [])
        fault(
            "YAML that grows without end, is endlessly deep, or reads the environment",
            "refused in one line",
        )


def test_links_out_of_a_run_folder(run: Path, fault, some) -> None:
    """What would be written through the link, or copied from behind it, stays as it was."""
    shutil.copytree(run, "whole")
    for name in some(
        [
            "checkpoints",
            "checkpoints/last.ckpt",
            "metrics.csv",
            ".lock",
            "wandb",
            "costs.json",
            "tokenizer.json",
            "evaluation-1",
        ]
    ):
        shutil.rmtree(run)
        shutil.copytree("whole", run)
        (run / "finished").unlink()
        outside = Path("outside")
        shutil.rmtree(outside, ignore_errors=True)
        outside.mkdir()
        inside = run / name
        target = outside / inside.name
        if inside.exists():
            inside.rename(target)
        elif name in ("wandb", "evaluation-1"):
            target.mkdir()
            shutil.copy(run / "config.yaml", target)
        else:
            target.write_text("precious")
        inside.symlink_to(
            target.resolve() if len(name) % 2 else os.path.relpath(target, inside.parent)
        )
        before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
        for action in (go_on, score, take_out):
            refuses(action, run, message="leads out of")
            fault(
                "a run folder with a link that leads out of it",
                "refused in one line; nothing outside is touched",
            )
        assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before


def test_names_that_lead_out(fault, some) -> None:
    names = [
        "../x",
        "..",
        "a/../../x",
        "/x",
        "a/b",
        "a\\..\\x",
        ".",
        "~",
        "",
        "a\0b",
        "$HOME",
        "a\n",
    ]
    for name in some(names):
        refuses(load, [], ["run.name=" + json.dumps(name)])
        fault("a run's name that leads out of its folder", "refused in one line")
