import csv
import json
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from PIL import Image

from headcount.commands import train as run
from headcount.config.load import as_dict, load
from headcount.errors import ConfigError
from headcount.training.trainer import make_trainer


def trained(small, *overrides: str) -> Path:
    config = small(*overrides)
    run.train(config, fresh=True)
    return max(
        Path(config.run.directory).iterdir(), key=lambda folder: int(folder.name.split("-")[-1])
    )


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_folder_does_not_get_the_permissions_of_a_read_only_cache(tmp_path: Path) -> None:
    audit, folder = tmp_path / "audit", tmp_path / "run"
    audit.mkdir()
    folder.mkdir(mode=0o755)
    (audit / "audit.json").write_text("{}")
    (audit / "audit.json").chmod(0o444)
    audit.chmod(0o555)

    run._copy_audit(audit, folder)
    assert (folder / "audit.json").read_text() == "{}"
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "audit.json").stat().st_mode & 0o200
    audit.chmod(0o755)  # so that the folder can be deleted


@pytest.mark.pictures
def test_a_run_leaves_all_that_it_promises(small, capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_dict(small("trainer.log_every_n_steps=1"))
    folder = trained(small, "trainer.log_every_n_steps=1")
    promised = "attention.html checkpoints config.yaml cross_attention.png data.json per_example_metrics.csv metrics.csv predictions.jsonl"
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [
            *promised.split(),
            ".lock",
            "audit.json",
            "costs.json",
            "environment.json",
            "finished",
            "lengths.png",
            "scores.json",
            "tokenizer.json",
        ]
    )
    assert as_dict(load([str(folder / "config.yaml")], [])) == plain
    for picture in ("cross_attention.png", "lengths.png"):
        width, _ = Image.open(folder / picture).size
        assert width > 500
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["config"] == plain
    with (folder / "metrics.csv").open() as file:
        logged = list(csv.DictReader(file))
    assert [r["step"] for r in logged if r["validation/rougeL"]] == ["1", "3"]
    assert {
        "train/loss",
        "train/token_accuracy",
        "train/tokens_per_second",
        "test/rouge1",
    } <= logged[0].keys()
    output = capsys.readouterr().out
    for text in ("ROUGE-Lsum", "lead-1", "rouge-score:0.1.2|nrefs:1|", "reference", "run folder"):
        assert text in output
    assert output.count("  summary    ") == 5


def test_the_best_checkpoint_by_validation_is_kept_and_used(
    small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation scores are made to fall, so that the first checkpoint is the best."""
    falling = iter(range(100, 0, -1))
    monkeypatch.setattr(
        "headcount.evaluation.rouge.Rouge.score", lambda *_: [next(falling) / 100] * 4
    )
    folder = trained(small, "trainer.max_steps=6")
    steps = {
        n: torch.load(folder / "checkpoints" / f"{n}.ckpt", weights_only=True)["global_step"]
        for n in ("best", "last")
    }
    assert steps == {"best": 2, "last": 6}
    assert json.loads((folder / "scores.json").read_text())["step"] == 2


def test_a_run_folder_is_never_written_into_twice(small) -> None:
    first = trained(small)
    before = {p: p.stat().st_mtime_ns for p in first.rglob("*")}
    second = trained(small)
    assert (first.name, second.name) == ("run-1", "run-2")
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*")} == before


def test_same_config_and_seed_give_the_same_run(small) -> None:
    first, second, other = trained(small), trained(small), trained(small, "seed=1")
    weights = [
        torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for f in (first, second, other)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(
        *(each["model.summary_embedding.tokens.weight"] for each in (weights[0], weights[2]))
    )
    assert (first / "predictions.jsonl").read_text() == (second / "predictions.jsonl").read_text()


def test_fast_dev_run_leaves_nothing(
    small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small("trainer.fast_dev_run=true", "tracking.mode=offline")
    run.train(config)
    assert "every part ran once" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "data"]


def test_no_validation_within_the_budget_still_ends_with_scores(small) -> None:
    folder = trained(small, "trainer.val_check_interval=50")
    assert json.loads((folder / "scores.json").read_text())["step"] == 4


@pytest.mark.parametrize(
    "override",
    [
        "trainer.accelerator=abacus",
        "trainer.precision=7",
        "trainer.strategy=none",
        "trainer.strategy=ddp_fork",
        "trainer.val_check_interval=0.5",
        "trainer.profiler=fast",
        "trainer.max_time=1h",
        "trainer.gradient_clip_algorithm=mean",
        "trainer.devices=0",
    ],
)
def test_a_wrong_trainer_value_is_answered_before_anything_is_made(
    override: str, small, tmp_path: Path
) -> None:
    config = small(override)
    with pytest.raises(ConfigError, match=r"^trainer[:.][^\n]*$"):
        run.train(config)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["trainer.val_check_interval=1000", "trainer.check_val_every_n_epoch=1"],
            "trainer.val_check_interval=1000 is more than the 7 batches of an epoch; legal: up to "
            "7, or trainer.check_val_every_n_epoch=null to count across epochs",
        ),
        (
            ["trainer.limit_train_batches=0.001"],
            "trainer.limit_train_batches=0.001 is less than one of the 7 batches of an epoch; "
            "legal: at least 1/7, or a number of batches",
        ),
        (
            ["trainer.overfit_batches=0.1"],
            "trainer.overfit_batches=0.1 is less than one of the 7 batches of an epoch; legal: at "
            "least 1/7, or a number of batches",
        ),
        (["trainer.devices=13"], "trainer.devices=13: too many processes to decode 12 examples"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_what_an_epoch_is_too_short_for_is_answered_before_the_run_is_prepared(
    overrides: list[str], message: str, small, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as found:
        run.train(small(*overrides))
    assert str(found.value) == message
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_lightning_rejects_in_mid_training_is_one_line(small, monkeypatch) -> None:
    def reject(*_: object) -> None:
        raise MisconfigurationException("this does not\n go with that")

    monkeypatch.setattr("headcount.training.module.Summarizer.training_step", reject)
    with pytest.raises(ConfigError, match="^trainer: this does not go with that$"):
        run.train(small())


def test_a_training_has_all_heads(small) -> None:
    with pytest.raises(ConfigError, match=r"heads_off=\['cross.0.0'\] is for finished runs"):
        run.train(small("generation.heads_off=[cross.0.0]"))


def test_a_warm_up_longer_than_the_training_is_said(
    small, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "so the learning rate stays below optimizer.learning_rate="
    trained(small, "optimizer.warmup_steps=4")
    assert f"this training has 4 steps, {message}" in capsys.readouterr().out
    trained(small, "optimizer.warmup_steps=3")
    assert message not in capsys.readouterr().out


def test_limited_summaries_are_scored_and_resumed(small, monkeypatch) -> None:
    overrides = ("trainer.limit_predict_batches=2", "generation.batch_size=3")
    folder = trained(small, *overrides)
    assert json.loads((folder / "scores.json").read_text())["examples"] == 6
    ids = [row["id"] for row in rows(folder / "predictions.jsonl")]
    again = trained(small, *overrides, "seed=1")
    assert [row["id"] for row in rows(again / "predictions.jsonl")] == ids


def test_slurm_jobs_are_not_requeued_by_lightning(small, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "cell"}
    variables |= dict.fromkeys(["SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID"], "0")
    for name, value in {**variables, "SLURM_JOB_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    two = make_trainer(small("trainer.devices=2"), loggers=[], callbacks=[])
    environment = two._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment) and not environment.auto_requeue
    one = make_trainer(small(), loggers=[], callbacks=[])
    assert isinstance(one._accelerator_connector.cluster_environment, LightningEnvironment)


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "8"},
        {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "study"},
        {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "study"},
    ],
    ids=" ".join,
)
def test_variables_of_another_launcher_are_ignored(
    variables: dict[str, str],
    small,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run of one process trains, logs and finishes as ever."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        "lightning_utilities.core.rank_zero.rank_zero_only.rank", 3
    )  # as set when it is imported
    folder = trained(small)
    assert (folder / "finished").exists() and len(rows_of_metrics(folder)) > 0
    assert "run folder: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "variables",
    [
        {"NODE_RANK": "1"},
        {"LOCAL_RANK": "1"},
        {"MASTER_PORT": "http", "MASTER_ADDR": "nohost.invalid"},
        {"WORLD_SIZE": "8", "RANK": "5", "GROUP_RANK": "3"},
    ],
    ids=" ".join,
)
def test_two_processes_ignore_what_another_launcher_has_left(
    variables: dict[str, str], small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would wait for ranks that nobody starts."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    trainer = make_trainer(small("trainer.devices=2"), loggers=[], callbacks=[])
    environment = trainer._accelerator_connector.cluster_environment
    assert trainer.global_rank == 0 and trainer.world_size == 2
    assert environment.main_address == "127.0.0.1" and environment.main_port > 0
    assert not environment.creates_processes_externally


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LOCAL_RANK": "0", "MASTER_PORT": "http"}, "variable MASTER_PORT=http: not a number"),
        ({"LOCAL_RANK": "x", "MASTER_PORT": "2"}, "variable LOCAL_RANK=x: not a number"),
        (
            {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
            r"trainer\.devices=2 .* need 2 processes, and the launcher has started 1; legal: .*srun",
        ),
    ],
    ids=["a port that is no number", "a rank that is no number", "one task of SLURM"],
)
def test_launchers_of_two_processes_are_checked(
    variables: dict[str, str], message: str, small, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        make_trainer(small("trainer.devices=2"), loggers=[], callbacks=[])


def rows_of_metrics(folder: Path) -> list[str]:
    return (folder / "metrics.csv").read_text().splitlines()[1:]


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_half_precision_trains_and_decodes(
    precision: str, small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False})
    folder = trained(small, f"trainer.precision={precision}")
    assert f"trainer.precision={precision}: this CPU" in "".join(capsys.readouterr())
    assert (folder / "finished").exists()
    assert json.loads((folder / "scores.json").read_text())["examples"] == 12


def test_text_that_rouge_does_not_see_is_reported_first(
    small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the training, and among the alarms at its end."""
    config = small("evaluation.baselines=[]", "trainer.max_steps=2")
    for split in ("validation", "test"):
        lines = [
            json.dumps({"document": f"Покупка номер {n}. Спасибо.", "summary": f"Купили {n}."})
            for n in range(6)
        ]
        (tmp_path / "data" / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    run.train(config)
    printed = capsys.readouterr().out
    assert printed.index("unicode keeps them") < printed.index("step 2: ")
    assert printed.count("unicode keeps them") == 2
