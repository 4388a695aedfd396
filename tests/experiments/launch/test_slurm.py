"""A study as a SLURM job array, on a SLURM of one node that this test starts, where slurmctld is
installed."""

import io
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import submitit
from rich.console import Console

from headcount.errors import ConfigError
from headcount.experiments.cell import Cell
from headcount.experiments.launch.local import Launch
from headcount.experiments.launch.slurm import launch_on_slurm
from tests.experiments.launch.test_local import wait_until

SETTINGS = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={worker}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=1000 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A SLURM of one node."""
    if not shutil.which("slurmctld") or os.getuid() != 0:
        pytest.skip("needs slurmctld and root")
    folder, host = tmp_path / "slurm", socket.gethostname().split(".")[0]
    for part in (folder, folder / "state", folder / "spool"):
        part.mkdir()
    cores, ports = os.cpu_count(), {"controller": free_port(), "worker": free_port()}
    (folder / "slurm.conf").write_text(
        SETTINGS.format(folder=folder, host=host, cores=cores, **ports)
    )
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    daemons = [
        subprocess.Popen([name, "-D"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in ("slurmctld", "slurmd")
    ]
    try:
        wait_until(lambda: "idle" in ask("sinfo", "--noheader"), seconds=30)
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_an_array_with_one_job_requeued_ends_as_a_local_launch(
    slurm: None, small_study: list[Cell]
) -> None:
    console = Console(file=io.StringIO(), width=200)
    preempted = small_study[1]
    status: list[int] = []
    launched = threading.Thread(
        target=lambda: status.append(
            launch_on_slurm(small_study, "study", workers=2, options=["time=30"], console=console)
        )
    )
    launched.start()
    wait_until((preempted.folder / "checkpoints" / "last.ckpt").exists, seconds=120)
    job = next(
        line.split()[0]
        for line in ask("squeue", "--noheader", "-o", "%i").splitlines()
        if line.endswith("_1")
    )
    ask("scancel", "--signal=USR2", job)
    wait_until(lambda: "Restarts=1" in ask("scontrol", "show", "job", job), seconds=60)
    assert not (preempted.folder / "finished").exists()

    def starts() -> bool:
        ask(
            "scontrol", "update", f"JobId={job}", "StartTime=now"
        )  # a requeued job waits for two minutes
        return "RUNNING" in ask("squeue", "--noheader", "-o", "%T", "-j", job)

    wait_until(starts, seconds=60)
    launched.join()
    printed = console.file.getvalue()
    assert status == [0], printed
    assert ": resumes from step" in " ".join(preempted.log.read_text().split())
    wait_until(lambda: not ask("squeue", "--noheader"), seconds=60)
    results = [read(cell) for cell in small_study]
    for cell in small_study:
        shutil.move(cell.folder, cell.folder.with_name(f"{cell.folder.name}.slurm"))
    assert Launch(small_study, "study", workers=2, console=console).run() == 0
    assert [read(cell) for cell in small_study] == results


def read(cell: Cell) -> tuple[str, str]:
    return (cell.folder / "per_example_metrics.csv").read_text(), (
        cell.folder / "predictions.jsonl"
    ).read_text()


def test_without_slurm_it_says_so(
    monkeypatch: pytest.MonkeyPatch, small_study: list[Cell]
) -> None:
    monkeypatch.setenv("PATH", "nowhere")
    with pytest.raises(ConfigError, match='--where slurm: Could not detect "srun"'):
        launch_on_slurm(small_study, "study", workers=None, options=[], console=Console())


def test_an_unknown_option_is_answered_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_study: list[Cell]
) -> None:
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="--where slurm: Unavailable parameter.*partition"):
        launch_on_slurm(
            small_study, "study", workers=None, options=["partitoin=gpu"], console=Console()
        )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["time=1:30:00"], {"time": "1:30:00"}),
        (["time=90", "gpus_per_node=2"], {"time": 90, "gpus_per_node": 2}),
        (["account=0123", "constraint=[a|b]"], {"account": "0123", "constraint": "[a|b]"}),
        (["exclusive=true", "qos=no"], {"exclusive": True, "qos": "no"}),
        (["setup=[module load cuda]"], {"setup": ["module load cuda"]}),
        (["comment=a=b"], {"comment": "a=b"}),
    ],
)
def test_options_keep_their_text(
    options: list[str],
    expected: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    small_study: list[Cell],
) -> None:
    updated: dict[str, object] = {}

    class Executor:
        def __init__(self, *arguments: object, **keywords: object) -> None:
            pass

        def update_parameters(self, **parameters: object) -> None:
            updated.update(parameters)
            raise RuntimeError("enough")

    monkeypatch.setattr(submitit, "SlurmExecutor", Executor)
    with pytest.raises(ConfigError, match="enough"):
        launch_on_slurm(small_study, "study", workers=None, options=options, console=Console())
    assert updated == {"time": 60, "job_name": "study"} | expected


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("partition", "^--slurm partition: legal: KEY=VALUE"),
        ("=gpu", "^--slurm =gpu: legal: KEY=VALUE"),
        ("setup=[a", r"^--slurm setup=\[a: no YAML; legal: as in"),
    ],
)
def test_an_option_without_key_or_value_is_named(
    option: str, message: str, small_study: list[Cell]
) -> None:
    with pytest.raises(ConfigError, match=message):
        launch_on_slurm(small_study, "study", workers=None, options=[option], console=Console())
