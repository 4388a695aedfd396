"""What is written for users when the disk is full, and what strangers' exports and files state.

Nothing half-written is left, and nothing is summarized that is no text.
"""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from headcount.commands.export import export
from headcount.commands.summarize import summarize
from headcount.errors import ConfigError, RunError
from headcount.runs.folder import load_run_config
from tests.faults.test_disk import disk, fill  # noqa: F401  a fixture

pytestmark = pytest.mark.faults
LINES = 40


@pytest.fixture
def documents() -> str:
    Path("in.txt").write_text("Ada: Good day.\n" * LINES)
    return "in.txt"


def test_the_disk_is_full_while_a_run_is_exported(
    finished_run: Path,
    disk: Path,  # noqa: F811
    fault,
    some,
) -> None:
    for left in some([0, 4_096, 12_288, 40_960, 98_304]):
        for name in ("new", "empty"):
            if name == "empty":
                (disk / name).mkdir()
            fill(disk, left)
            with pytest.raises(RunError, match=r"cannot be written: No space left on device$"):
                export(finished_run, disk / name)
            assert not [path for path in disk.rglob("*") if path.name not in ("ballast", "empty")]
            (disk / "ballast").unlink()
            export(finished_run, disk / name)
            shutil.rmtree(disk / name)
            fault(
                "the disk is full while a run is exported",
                "exit 1, one line; nothing is left of the export",
            )


def test_the_disk_is_full_while_summaries_are_written(
    finished_run: Path,
    documents: str,
    disk: Path,  # noqa: F811
    fault,
    some,
) -> None:
    config = load_run_config(finished_run, ["generation.batch_size=2"])
    out = disk / "out.jsonl"
    summarize(finished_run, config, documents, out=Path("whole.jsonl"))
    for left in some([0, 4_096, 8_192, 12_288]):
        fill(disk, left)
        with pytest.raises((RunError, ConfigError), match="No space left on device$"):
            summarize(finished_run, config, documents, out=out)
        assert not out.exists()
        (disk / "ballast").unlink()
        summarize(finished_run, config, documents, out=out)
        assert out.read_text() == Path("whole.jsonl").read_text()
        for path in disk.glob("out.jsonl*"):
            path.unlink()
        fault(
            "the disk is full while summaries are written to a file",
            "one line; with room again the same command resumes to the same file",
        )


def test_standard_output_takes_no_more(finished_run: Path, documents: str, fault) -> None:
    command = [sys.executable, "-m", "headcount", "summarize", "run", documents]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: standard output: cannot be written: ")
    done = subprocess.run(f"{' '.join(command)} | head -1", shell=True, capture_output=True)
    assert done.stdout.count(b"\n") == 1 and b"Traceback" not in done.stderr
    fault(
        "standard output is full, or a pipe that is closed",
        "one line and exit 1, or none where a pipe was closed",
        tries=2,
    )


def test_sizes_and_numbers_of_an_export(finished_run: Path, documents: str, fault, some) -> None:
    export(finished_run, Path("out"))
    path = Path("out/config.json")
    whole = path.read_text()
    huge = [
        ("model", "embedding_size", 10**9),
        ("model", "encoder_layers", 10**10),
        ("model", "decoder_layers", 10**10),
        ("model", "feedforward_size", 10**12),
        ("model", "head_dim", 10**10),
        ("data", "max_document_tokens", 10**11),
        ("generation", "num_beams", 10**9),
    ]
    for section, key, value in some(huge):
        config = json.loads(whole)
        config["data"]["batch_tokens"] = 10**13
        config["generation"]["strategy"] = "beam"
        config[section][key] = value
        path.write_text(json.dumps(config))
        with pytest.raises(ConfigError, match="weights are not of the model|GB of memory; legal"):
            summarize(Path("out"), load_run_config(Path("out"), []), documents)
        fault(
            "an export states sizes that exhaust memory",
            "exit 2, one line, before anything of that size is allocated",
        )
    path.write_text(whole)

    weights = load_file("out/model.safetensors")
    with safe_open("out/model.safetensors", "pt") as file:
        metadata = file.metadata()
    for name in some(list(weights)):
        changed = {key: tensor.clone() for key, tensor in weights.items()}
        changed[name].flatten()[0] = float("nan")
        save_file(changed, "out/model.safetensors", metadata)
        with pytest.raises(ConfigError, match="holds NaN or infinity$"):
            summarize(Path("out"), load_run_config(Path("out"), []), documents)
        fault("an export has weights that are NaN", "exit 2, one line that names the weight")


def test_files_that_are_no_text(finished_run: Path, fault, some) -> None:
    text = "Ada: Good day. Ben: I would like a pear."
    contents = [text.encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")]
    contents += ["Сегодня хорошая погода.".encode(name) for name in ("koi8-r", "cp1251")]
    contents += [begin + bytes(60) for begin in (b"PK\x03\x04", b"%PDF-1.7", b"PAR1", b"\x7fELF")]
    contents += [gzip.compress(text.encode())[:-9]]
    config = load_run_config(finished_run, [])
    for content in some(contents):
        for name in ("in.txt", "in.jsonl", "in.csv"):
            Path(name).write_bytes(content)
            with pytest.raises(ConfigError, match="this is|not readable as gzip"):
                summarize(finished_run, config, name)
            fault("summarize is given what is no text", "exit 2, one line that says what it is")
