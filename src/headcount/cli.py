"""The terminal: commands, their help, and one line for every mistake.

Only the command that runs imports what it needs: ``--help`` and a config error never wait for
torch.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from headcount.config import load as compose
from headcount.config.schema import Config
from headcount.errors import ConfigError, RunError
from headcount.runs.folder import load_run_config
from headcount.terminal import make_console, print_line, take_any_encoding

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="How many attention heads does a summarizer need, and which?",
)

Args = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG... [KEY=VALUE...]", help="YAML files, merged left to right, then overrides"
    ),
]
Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="a run folder, as printed by train, or an export")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE...]", help="changes to the run's own config"),
]


def main() -> None:
    """Run the command line.

    A mistake of the user is one line on standard error and exit code 2, a fault is 1.
    """
    # Whatever this process starts (workers, further ranks, trainings, jobs) imports no module from
    # the current folder, where a user may have a file called random.py or torch.py.
    os.environ["PYTHONSAFEPATH"] = "1"
    # A notebook names a backend for its own kernel, which a command started from it cannot load.
    os.environ["MPLBACKEND"] = "agg"
    take_any_encoding()
    try:
        app()
    except (ConfigError, RunError) as error:
        print_line(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def _load(args: list[str]) -> Config:
    return compose.load(*compose.sort_arguments(args))


@app.command(
    epilog="Examples:\n\n- `headcount train configs/docstrings.yaml`\n\n"
    "- `headcount train configs/docstrings.yaml model.num_heads=8 seed=1`\n\n"
    "- `headcount train configs/dialogsum.yaml configs/trainer/gpu.yaml data.path=dialogsum/`\n\n"
    "- `headcount train configs/docstrings.yaml configs/smoke.yaml` tries everything in a minute"
)
def train(
    args: Args,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="start another run of the same config")
    ] = False,
) -> None:
    """Train a summarizer, keep the best checkpoint, write and score the test summaries.

    The same command resumes an interrupted run.
    """
    config = _load(args)
    from headcount.commands.train import train

    train(config, fresh=fresh)


@app.command(
    epilog="Examples:\n\n- `headcount evaluate runs/docstrings-1`\n\n"
    "- `headcount evaluate runs/docstrings-1 data.test_split=validation`\n\n"
    "- `headcount evaluate runs/docstrings-1 --shuffle-sources`"
)
def evaluate(
    run: Run,
    args: Overrides = None,
    shuffle_sources: Annotated[
        bool,
        typer.Option(
            "--shuffle-sources", help="score also what the model writes for other documents"
        ),
    ] = False,
) -> None:
    """Write and score the test summaries of a finished run again, with its best checkpoint."""
    config = load_run_config(run, args or [])
    from headcount.commands.evaluate import evaluate

    evaluate(run, config, shuffle_sources=shuffle_sources)


@app.command(
    epilog="Examples:\n\n- `headcount baselines configs/docstrings.yaml`\n\n"
    "- `headcount baselines configs/dialogsum.yaml data.path=dialogsum/ "
    "evaluation.references=max`\n\n"
    "- `headcount baselines configs/scitldr.yaml 'evaluation.baselines=[lead-2,oracle-2]'`"
)
def baselines(args: Args) -> None:
    """Score the extractive baselines and the human row on the test split.

    Lead, longest, random and oracle extracts, and people.
    """
    config = _load(args)
    from headcount.commands.baselines import baselines

    baselines(config)


@app.command(
    epilog="Examples:\n\n- `headcount compare runs/docstrings-1 runs/docstrings-2`\n\n"
    "- `headcount compare runs/docstrings-1 runs/docstrings-1/evaluation-1 runs/docstrings-2`"
)
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN...", help="run folders, or evaluations within them"),
    ],
) -> None:
    """Compare runs on the same test examples.

    The first with each of the others, with intervals and p-values.
    """
    from headcount.commands.compare import compare

    compare(runs)


@app.command(
    epilog="Examples:\n\n- `headcount summarize runs/docstrings-1 letter.txt`\n\n"
    "- `cat notes.txt | headcount summarize runs/docstrings-1`\n\n"
    "- `headcount summarize runs/docstrings-1 documents.jsonl > summaries.jsonl`\n\n"
    "- `headcount summarize runs/docstrings-1 documents.jsonl --out summaries.jsonl` resumes "
    "where it was killed\n\n"
    "- `headcount summarize runs/docstrings-1 documents.jsonl "
    "generation.strategy=beam generation.num_return_sequences=4`"
)
def summarize(
    run: Run,
    args: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE|-] [KEY=VALUE...]",
            help="text or JSONL, - is standard input; then changes",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="OUT",
            help="JSONL to write; the same command resumes an interrupted one",
        ),
    ] = None,
) -> None:
    """Summarize new documents.

    Text, one a line; or JSONL, an object a line, which comes out as JSONL.
    """
    files, overrides = compose.sort_arguments(args or [])
    if len(files) > 1:
        raise ConfigError(
            f"summarize: {files[1]}: a second file; legal: one, or - for standard input"
        )
    config = load_run_config(run, overrides)
    from headcount.commands.summarize import summarize

    summarize(run, config, files[0] if files else "-", out=out)


@app.command(
    epilog="Examples:\n\n- `headcount export runs/docstrings-1 docstrings-4-heads`\n\n"
    "- `headcount summarize docstrings-4-heads notes.txt` then works without the run"
)
def export(
    run: Run,
    to: Annotated[Path, typer.Argument(metavar="DIR", help="a folder to make, new or empty")],
) -> None:
    """Export the best weights of a finished run as safetensors, with config, tokenizer and a model
    card."""
    from headcount.commands.export import export

    export(run, to)


@app.command(
    epilog="Examples:\n\n- `headcount data configs/dialogsum.yaml`\n\n"
    "- `headcount data configs/data/xsum.yaml tokenizer.vocabulary_size=16000`\n\n"
    "- `headcount data configs/docstrings.yaml data.path=all.jsonl data.validation_split=null "
    "data.test_split=null`"
)
def data(args: Args) -> None:
    """Prepare a data set and show what is in it.

    Sizes, lengths, novelty, repeats, dropped rows.
    """
    config = _load(args)

    from headcount.training.data_module import SummarizationDataModule

    module = SummarizationDataModule(config)
    module.setup()
    print_line(f"figures and picture: {module.audit(make_console(), always=True)}")


@app.command(
    epilog="Examples:\n\n- `headcount config configs/docstrings.yaml model.num_heads=8`\n\n"
    "- `headcount config --schema`"
)
def config(
    args: Annotated[list[str] | None, typer.Argument(metavar="CONFIG... [KEY=VALUE...]")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="every key with its type, default and meaning")
    ] = False,
) -> None:
    """Print the resolved config, or with --schema every key there is."""
    if schema:
        print_line(compose.schema())
        return
    if not args:
        raise ConfigError("config: no files; legal: CONFIG... [KEY=VALUE...], or --schema")
    print_line(compose.to_yaml(_load(args)), end="")


@app.command(
    epilog="Examples:\n\n- `headcount model configs/docstrings.yaml`\n\n"
    "- `headcount model configs/docstrings.yaml configs/model/gpt.yaml model.num_kv_heads=1`"
)
def model(args: Args) -> None:
    """Print the model as a table: heads and parameters by place, FLOPs and cache."""
    config = _load(args)
    from headcount.commands.model import describe

    describe(config)


@app.command(
    epilog="Examples:\n\n- `headcount ablate experiments/head_count`\n\n"
    "- `headcount ablate experiments/head_count --dry-run`\n\n"
    "- `headcount ablate experiments/head_count --smoke` tries all of it in a minute\n\n"
    "- `headcount ablate experiments/head_count model.num_heads=8 --workers 2 --retry`\n\n"
    "- `headcount ablate experiments/head_count --where slurm --slurm partition=gpu --slurm "
    "gpus_per_node=1`\n\n"
    "- `headcount ablate experiments/head_count --where wandb`"
)
def ablate(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT", help="a folder with a grid.yaml")
    ],
    only: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE...]", help="only the cells that have these values"),
    ] = None,
    where: Annotated[
        Literal["local", "slurm", "wandb"],
        typer.Option(
            help="on this machine, as a SLURM job array, or by agents of a W&B sweep that this "
            "registers"
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="trainings at a time, which share cores and GPUs; 1, or a --smoke's cores"
        ),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="as submitit names it: partition, time, gpus_per_node"
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="train again also what failed before")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what it would take, and start nothing")
    ] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="a few steps of each cell, in a folder of its own")
    ] = False,
    expect: Annotated[
        str | None, typer.Option("--expect", hidden=True, help="fingerprint of the study")
    ] = None,
) -> None:
    """Train every cell of a study that is not yet finished; the same command resumes.

    Exit status 0 says that all cells are finished.
    """
    from headcount.experiments.cells import check_study, make_cells, pick_cells
    from headcount.experiments.grid import load_grid

    if slurm and where != "slurm":
        raise ConfigError(
            f"--slurm {slurm[0]} does nothing with --where {where}; legal: --where slurm"
        )
    grid = load_grid(experiment)
    every = make_cells(grid, smoke=smoke)
    if expect is not None:
        check_study(experiment, every, expect)
    cells = pick_cells(every, only or [])

    from headcount.experiments.controls import check_controls
    from headcount.experiments.launch.local import Launch, count_cores, forget_failure

    console = make_console()
    check_controls(grid, every)
    if dry_run:
        from headcount.experiments.plan import print_plan

        print_plan(grid, cells, workers=workers or 1, console=console)
        return
    if where == "wandb":
        from headcount.experiments.launch.wandb_sweep import make_sweep, register_sweep

        register_sweep(make_sweep(grid, every, smoke=smoke), every, console)
        return
    if retry:
        for cell in cells:
            forget_failure(cell)
    if where == "slurm":
        from headcount.experiments.launch.slurm import launch_on_slurm

        status = launch_on_slurm(
            cells, grid.name, workers=workers, options=slurm or [], console=console
        )
    else:
        workers = workers or (min(count_cores(), len(cells)) if smoke else 1)
        status = Launch(cells, grid.name, workers=workers, console=console).run()
    raise typer.Exit(status)


@app.command(
    epilog="Examples:\n\n- `headcount report experiments/head_count`\n\n"
    "- `headcount report experiments/head_count tracking.mode=disabled`"
)
def report(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT", help="a folder with a grid.yaml")
    ],
    args: Annotated[
        list[str] | None,
        typer.Argument(metavar="[tracking.KEY=VALUE...]", help="of the report's own W&B run"),
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="of the cells that ablate --smoke has trained")
    ] = False,
) -> None:
    """Say what a study has found.

    Tables, a figure and words into its folder, also when it is half-finished.
    """
    from headcount.experiments.report.write import report

    report(experiment, args or [], smoke=smoke)
