"""Every source file has its test file, where a reader looks for it."""

from pathlib import Path

import headcount

SOURCE = Path(headcount.__file__).parent
TESTS = Path(__file__).parent
ELSEWHERE = {  # tested by the test file of what uses it
    "__main__.py": "test_cli.py",
    "errors.py": "config/test_load.py",
    "config/paths.py": "data/test_cache.py",
    "config/sections/callbacks.py": "config/test_section.py",
    "config/sections/heads.py": "model/test_head_gates.py",
    "config/sections/loggers.py": "config/test_section.py",
    "config/sections/optimizer.py": "config/test_section.py",
    "config/sections/stages.py": "config/test_schema.py",
    "config/sections/tokenizer.py": "data/test_tokenizer.py",
    "model/base.py": "model/test_architectures.py",
    "model/build.py": "model/test_architectures.py",
    "model/decoder_cache.py": "model/test_architectures.py",
    "model/layers.py": "model/test_transformer.py",
    "data/arrow_table.py": "data/test_tokens.py",
    "data/length_plot.py": "data/test_audit.py",
    "data/pairs.py": "data/test_sources.py",
    "data/readers.py": "data/test_files.py",
    "evaluation/alarms.py": "evaluation/test_report.py",
    "commands/report.py": "experiments/test_study.py",
    "training/trainer.py": "commands/test_train.py",
    "training/callbacks/step_seeding.py": "training/test_resume.py",
    "shipped/project/train.py": "commands/test_init.py",
    "shipped/project/tests/test_project.py": "commands/test_init.py",
    "experiments/cell.py": "experiments/test_cells.py",
    "experiments/launch/status_table.py": "experiments/launch/test_local.py",
}


def test_every_source_file_has_its_tests() -> None:
    missing = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE)
        if path.name == "__init__.py":
            continue
        mirror = name.with_name(f"test_{name.name}")
        if not (TESTS / ELSEWHERE.get(name.as_posix(), mirror)).is_file():
            missing.append(name.as_posix())
    assert missing == []


def test_exceptions_are_needed() -> None:
    for name in ELSEWHERE:
        assert (SOURCE / name).is_file(), f"{name} is gone"
        mirror = Path(name).with_name(f"test_{Path(name).name}")
        assert not (TESTS / mirror).exists(), f"{name} has a test file of its own"
