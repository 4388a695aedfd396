"""The command line: parsing, examples and exit codes. Each command is a file in ``commands/``.

Only the command that runs is imported, and only after its config is checked: ``--help`` and a
config error never wait for torch.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from headcount.config import load as compose
from headcount.config.schema import Config
from headcount.errors import ConfigError, RunError, UserError
from headcount.runs.folder import load_run_config
from headcount.runs.model_hub import find_model
from headcount.terminal import escape_unencodable, print_line

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="How many attention heads does a summarizer need, and which?",
)

Args = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG... [KEY=VALUE...]",
        help="YAML files, of which a later one wins; then changes to single keys, such as "
        "model.num_heads=8",
    ),
]
Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="a run folder, as printed by train, or an export")
]
HubRun = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="a run folder, as printed by train, or an export: a folder, or OWNER/NAME on the "
        "Hugging Face hub",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE...]", help="changes to the run's own config"),
]


def main() -> None:
    """Run the command line.

    User errors print one line to standard error and exit with 2; failed runs exit with 1.
    """
    # Whatever this process starts (workers, further ranks, trainings, jobs) imports no module from
    # the current folder, where a user may have a file called random.py or torch.py.
    os.environ["PYTHONSAFEPATH"] = "1"
    # A notebook names a backend for its own kernel, which a command started from it cannot load.
    os.environ["MPLBACKEND"] = "agg"
    escape_unencodable()
    try:
        with _unwritable_output_as_run_error():
            app()
    except (UserError, RunError) as error:
        print_line(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)


@contextmanager
def _unwritable_output_as_run_error() -> Iterator[None]:
    """Report a full disk under standard output in one line. A closed pipe ends the command
    silently, as ``| head`` expects."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EPIPE):
            raise
        # What is still buffered must not fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno == errno.EPIPE:
            sys.exit(1)
        name = error.filename or "standard output"
        raise RunError(f"{name}: cannot be written: {error.strerror}") from None


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print_line(f"headcount {version('headcount')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="print the version", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


def _load(args: list[str]) -> Config:
    return compose.load(*compose.sort_arguments(args))


@app.command(
    epilog="Examples:\n\n- `headcount train configs/docstrings.yaml`\n\n"
    "- `headcount train configs/docstrings.yaml model.num_heads=8 seed=1`\n\n"
    "- `headcount train configs/data/dialogsum.yaml configs/dialogsum.yaml data.path=DIR`\n\n"
    "- `headcount train configs/docstrings.yaml configs/smoke.yaml` tries everything in a minute"
)
def train(
    args: Args,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="start a new run, although there is one of the same config"),
    ] = False,
) -> None:
    """Train a summarizer, keep the best checkpoint, generate and score the test summaries.

    All files are in a run folder, whose name is printed. The same command resumes an interrupted
    run.
    """
    config = _load(args)
    from headcount.commands.train import train

    train(config, fresh=fresh)


@app.command(
    epilog="Examples:\n\n- `headcount evaluate runs/docstrings-1`\n\n"
    "- `headcount evaluate runs/docstrings-1 data.test_split=validation`\n\n"
    "- `headcount evaluate runs/docstrings-1 --shuffle-sources`\n\n"
    "- `headcount evaluate runs/docstrings-1 runs/docstrings-2 generation.strategy=mbr` writes "
    "with both models, into runs/docstrings-1.ensemble-1\n\n"
    "- `headcount evaluate OWNER/NAME` scores an export on the Hugging Face hub, into "
    "NAME.evaluation-1"
)
def evaluate(
    run: HubRun,
    args: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN...] [KEY=VALUE...]",
            help="further runs with the same tokenizer, which generate together with the first; "
            "then changes to the first run's config",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="folder to write into, instead of one within the run or, for several runs, next "
            "to the first",
        ),
    ] = None,
    shuffle_sources: Annotated[
        bool,
        typer.Option(
            "--shuffle-sources",
            help="also score each summary against the reference of another document: what style "
            "alone earns",
        ),
    ] = False,
) -> None:
    """Generate and score the test summaries of a finished run again, with its best checkpoint.

    Several runs are an ensemble: at each token, their probabilities are averaged.
    """
    others, overrides = compose.sort_arguments(args or [])
    run = find_model(run)
    config = load_run_config(run, overrides)
    from headcount.commands.evaluate import evaluate

    evaluate(
        run,
        config,
        others=[find_model(Path(other)) for other in others],
        out=out,
        shuffle_sources=shuffle_sources,
    )


@app.command(
    epilog="Examples:\n\n- `headcount baselines configs/docstrings.yaml`\n\n"
    "- `headcount baselines configs/data/dialogsum.yaml data.path=dialogsum/ "
    "evaluation.references=max`\n\n"
    "- `headcount baselines configs/data/scitldr.yaml 'evaluation.baselines=[lead-2,oracle-2]'`"
)
def baselines(args: Args) -> None:
    """Score what needs no training: sentences of the document, and human summaries.

    lead-N is the first N sentences, longest-N and random-N are what they say, oracle-N those that
    score best. human is one reference scored against the others.
    """
    config = _load(args)
    from headcount.commands.baselines import baselines

    baselines(config)


@app.command(
    epilog="Examples:\n\n- `headcount compare runs/docstrings-1 runs/docstrings-2`\n\n"
    "- `headcount compare runs/docstrings-1 runs/docstrings-1/evaluation-1 runs/docstrings-2`\n\n"
    "- `headcount compare runs/docstrings-1 runs/docstrings-2 --report comparison.html`"
)
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN...", help="run folders, or evaluations within them"),
    ],
    report: Annotated[
        Path | None,
        typer.Option(help="write where they differ to this file: a page (.html) or Markdown"),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="the score by which the report compares examples")
    ] = "rougeL",
) -> None:
    """Compare runs on the same test examples.

    The first run is compared with each of the others, with intervals and p-values. A report shows
    scores by length, copying and word frequency, n-grams that only one run writes, the examples
    with the largest differences, the probability of improvement, and how far the summaries agree.
    """
    from headcount.commands.compare import compare

    compare(runs, report=report, metric=metric)


@app.command(
    epilog="Examples:\n\n- `headcount heads runs/docstrings-1`\n\n"
    "- `headcount heads runs/docstrings-1 heads.documents=500 heads.points=9`\n\n"
    "- `headcount heads runs/docstrings-1 heads.split=test`\n\n"
    "- `headcount heads runs/docstrings-1 runs/docstrings-2 runs/docstrings-3` compares seeds"
)
def heads(
    run: Run,
    args: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN...] [KEY=VALUE...]",
            help="further runs to compare; then changes to the config",
        ),
    ] = None,
) -> None:
    """Measure which heads of a finished run matter, and what they attend to.

    RUN/heads-N gets the importance of each head, the loss without it, its role, and curves of
    pruning, as tables, pictures and text. The same command resumes an interrupted analysis.
    Several runs, such as the seeds of one model, are also compared.
    """
    others, overrides = compose.sort_arguments(args or [])
    runs = [run, *map(Path, others)]
    configs = {each: load_run_config(each, overrides) for each in runs}
    from headcount.commands.heads import analyse_heads, compare_heads

    if len(configs) == 1:
        analyse_heads(run, configs[run])
    else:
        compare_heads(configs)


@app.command(
    epilog="Examples:\n\n- `headcount prune runs/docstrings-1 pruned --keep 18`\n\n"
    "- `headcount prune runs/docstrings-1 pruned --keep 18 --by random --seed 1`\n\n"
    "- `headcount prune runs/gated-1 pruned --by gates` after a training with heads.gates=l0\n\n"
    "- `headcount summarize pruned notes.txt` then works as with any run"
)
def prune(
    run: Run,
    to: Annotated[Path, typer.Argument(metavar="DIR", help="the run folder to write, new")],
    args: Overrides = None,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            metavar="K",
            help="number of heads to keep; if left out, with learned gates, those that are open",
        ),
    ] = None,
    by: Annotated[
        Literal["gradient", "one_off", "confidence", "gates", "random"],
        typer.Option(
            "--by",
            help="how the heads to remove are chosen: by a score of headcount heads, which must "
            "have run (gradient, one_off, confidence), by learned gates, or at random",
        ),
    ] = "one_off",
    seed: Annotated[int, typer.Option("--seed", help="seed of --by random")] = 0,
) -> None:
    """Remove the least important heads of a finished run for good, and score the smaller model."""
    config = load_run_config(run, args or [])
    from headcount.commands.prune import prune_run

    prune_run(run, to, config, keep=keep, by=by, seed=seed)


@app.command(
    epilog="Examples:\n\n- `headcount summarize runs/docstrings-1` asks for documents\n\n"
    "- `headcount summarize runs/docstrings-1 letter.txt --whole`\n\n"
    "- `cat notes.txt | headcount summarize runs/docstrings-1`\n\n"
    "- `headcount summarize runs/docstrings-1 documents.jsonl > summaries.jsonl`\n\n"
    "- `headcount summarize runs/docstrings-1 documents.jsonl --out summaries.jsonl` resumes "
    "where it was killed\n\n"
    "- `headcount summarize runs/docstrings-1 documents.jsonl "
    "generation.strategy=beam generation.num_return_sequences=4`\n\n"
    "- `headcount summarize runs/docstrings-1 runs/docstrings-2 letter.txt` with both models\n\n"
    "- `headcount summarize OWNER/NAME letter.txt` with an export on the Hugging Face hub"
)
def summarize(
    run: HubRun,
    args: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN...] [FILE|-] [KEY=VALUE...]",
            help="further runs with the same tokenizer, which generate together with the first; a "
            "file of text, JSON, CSV, TSV, Parquet or Arrow, - is standard input; then changes to "
            "the first run's config",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="OUT",
            help="a JSONL file to write; the same command resumes where it was interrupted",
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="a file of text is one document, not one per line")
    ] = False,
) -> None:
    """Summarize new documents.

    A text file has a document on each line, and the output is a summary on each line. A file of
    rows, such as CSV or JSONL, gives JSONL. Without a file, a terminal asks for documents.
    """
    named, overrides = compose.sort_arguments(args or [])
    run = find_model(run)
    others = [Path(name) for name in named if os.path.isdir(name)]
    files = [name for name in named if not os.path.isdir(name)]
    if len(files) > 1:
        raise ConfigError(
            f"summarize: {files[1]}: a second file; legal: one, or - for standard input"
        )
    config = load_run_config(run, overrides)
    from headcount.commands.summarize import summarize

    summarize(run, config, files[0] if files else "-", others=others, out=out, is_whole=whole)


@app.command(
    epilog="Examples:\n\n- `headcount page runs/docstrings-1`\n\n"
    "- `headcount page runs/docstrings-1 runs/docstrings-2 --out compared.html`\n\n"
    "- `headcount page runs/docstrings-1 letters.jsonl generation.strategy=beam`\n\n"
    "- `headcount page OWNER/NAME letters.jsonl` with an export on the Hugging Face hub"
)
def page(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN [RUN] [FILE] [KEY=VALUE...]",
            help="one or two runs or exports, as folders or as OWNER/NAME on the Hugging Face "
            "hub; a file of text or JSONL, instead of test documents; changes to the config",
        ),
    ],
    documents: Annotated[int, typer.Option("--documents", min=1, help="number of documents")] = 20,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="the file to write; page.html in the first run if left out",
        ),
    ] = None,
    heads_off: Annotated[
        bool,
        typer.Option(
            help="also show the summaries without each head, each layer and each kind of "
            "attention; takes longer"
        ),
    ] = True,
) -> None:
    """Write one HTML file that shows documents, their summaries, and what each head attends to.

    It needs no network and opens in any browser.
    """
    from headcount.commands.page import page

    page(arguments, documents=documents, out=out, heads_off=heads_off)


@app.command(
    epilog="Examples:\n\n- `headcount serve runs/docstrings-1`\n\n"
    "- `headcount serve runs/docstrings-1 runs/docstrings-2 --port 8001`\n\n"
    "- `HEADCOUNT_TOKEN=... headcount serve runs/docstrings-1 --host 0.0.0.0`"
)
def serve(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN [RUN] [FILE] [KEY=VALUE...]",
            help="one or two runs or exports, as folders or as OWNER/NAME on the Hugging Face "
            "hub; a file of text or JSONL, instead of test documents; changes to the config",
        ),
    ],
    port: Annotated[int, typer.Option("--port", help="the port; 0: any free one")] = 8000,
    host: Annotated[
        str | None,
        typer.Option(
            "--host", help="address to listen on; any but 127.0.0.1, this machine, needs a token"
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", envvar="HEADCOUNT_TOKEN", help="a secret that each request must contain"
        ),
    ] = None,
    documents: Annotated[
        int, typer.Option("--documents", min=0, help="number of documents to begin with")
    ] = 5,
) -> None:
    """Serve the page of a run on this machine until Ctrl-C, with a box for your own text.

    Any heads can be switched off, and the summary is generated again.
    """
    from headcount.commands.serve import serve

    serve(arguments, port=port, host=host, token=token, documents=documents)


@app.command(
    epilog="Examples:\n\n- `headcount attention runs/docstrings-1` draws the shortest test "
    "example\n\n"
    "- `headcount attention runs/docstrings-1 'A long text.' --out attention.svg`\n\n"
    "- `headcount attention runs/docstrings-1 --example 7 --block encoder.0 --out a.pdf`\n\n"
    "- `headcount attention runs/docstrings-1 'A long text.' --out a.npz` writes all blocks as "
    "arrays\n\n"
    "- `headcount attention runs/docstrings-1 --out a.npz --out a.png generation.strategy=beam`"
    "\n\n- `headcount attention OWNER/NAME 'A long text.'` with an export on the Hugging Face hub"
)
def attention(
    run: HubRun,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT] [KEY=VALUE...]",
            help="a document, instead of a test example; changes to the run's own config",
        ),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(help="id or number (from 0) of a test example; the shortest if left out"),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(
            help="what to draw: encoder, decoder or cross-attention and the layer, as in cross.3; "
            "the last layer's attention to the document if left out"
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="a file to write; png, svg or pdf: a picture; npz: the weights of all layers as "
            "arrays; may be repeated; RUN/attention.png if left out",
        ),
    ] = None,
) -> None:
    """Summarize one document, and show what each head attends to, as pictures or arrays."""
    texts, overrides = compose.sort_texts(arguments or [])
    if len(texts) > 1:
        raise ConfigError(f"attention: {texts[1]}: a second text; legal: one, in quotes")
    run = find_model(run)
    config = load_run_config(run, overrides)
    from headcount.commands.attention import attention

    text = texts[0] if texts else None
    attention(run, config, text, example=example, block=block, outs=out or [])


License = Annotated[
    str,
    typer.Option(
        "--license", metavar="ID", help="license of the weights, named as on the hub: mit, cc0-1.0"
    ),
]
Languages = Annotated[
    list[str] | None,
    typer.Option(
        "--language", metavar="CODE", help="language of the summaries: en; may be repeated"
    ),
]


@app.command(
    epilog="Examples:\n\n- `headcount export runs/docstrings-1 docstrings-4-heads`\n\n"
    "- `headcount export runs/docstrings-1 docstrings-4-heads --license mit --language en`\n\n"
    "- `headcount summarize docstrings-4-heads notes.txt` then works without the run"
)
def export(
    run: Run,
    to: Annotated[Path, typer.Argument(metavar="DIR", help="the folder to write, new or empty")],
    license: License = "unknown",
    language: Languages = None,
) -> None:
    """Export the best weights of a finished run as safetensors.

    Config, tokenizer and a model card are beside them. The folder works like a run, and the
    transformers library loads it.
    """
    from headcount.commands.export import CardFacts, export

    export(run, to, CardFacts(license=license, languages=language or ()))


@app.command(
    epilog="Examples:\n\n"
    "- `headcount push runs/docstrings-1 OWNER/docstrings-4-heads --private`\n\n"
    "- `headcount push docstrings-4-heads OWNER/docstrings-4-heads` pushes an export as it is\n\n"
    "- `headcount summarize OWNER/docstrings-4-heads notes.txt` then works anywhere"
)
def push(
    run: Run,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="of the model on the hub: OWNER/NAME")
    ],
    license: License = "unknown",
    language: Languages = None,
    private: Annotated[
        bool, typer.Option("--private", help="create it as a private model")
    ] = False,
) -> None:
    """Export a finished run and push it to the Hugging Face hub.

    It needs a token of your account, which `hf auth login` or the variable HF_TOKEN sets.
    """
    from headcount.commands.export import CardFacts
    from headcount.commands.push import push

    push(run, name, CardFacts(license=license, languages=language or ()), private=private)


@app.command(
    epilog="Examples:\n\n- `headcount init my-project`, then `cd my-project && make test`"
)
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="the folder to write, new or empty")
    ],
) -> None:
    """Start a project of your own that uses this package.

    A config, a study, a script in plain Lightning, a test, a Makefile and a README.
    """
    from headcount.commands.init import init

    init(folder)


@app.command(
    epilog="Examples:\n\n- `headcount data configs/data/dialogsum.yaml`\n\n"
    "- `headcount data configs/data/xsum.yaml tokenizer.vocabulary_size=16000`\n\n"
    "- `headcount data configs/docstrings.yaml configs/data/one_file.yaml data.path=all.jsonl`"
)
def data(args: Args) -> None:
    """Prepare a data set and print what is in it.

    Sizes, lengths, texts that are cut, the share of new words in the summaries, repeated and
    dropped rows.
    """
    config = _load(args)
    from headcount.commands.data import data

    data(config)


@app.command(
    epilog="Examples:\n\n- `headcount config configs/docstrings.yaml model.num_heads=8`\n\n"
    "- `headcount config --schema`"
)
def config(
    args: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONFIG... [KEY=VALUE...]", help="as for headcount train"),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="print every key with its type, default and meaning")
    ] = False,
) -> None:
    """Print the config that some files and changes give, or with --schema every key there is."""
    from headcount.commands.config import config

    config(args or [], schema=schema)


@app.command(
    epilog="Examples:\n\n- `headcount model configs/docstrings.yaml`\n\n"
    "- `headcount model configs/docstrings.yaml configs/model/gpt.yaml model.num_kv_heads=1`"
)
def model(args: Args) -> None:
    """Print a model as a table, without training it.

    Heads and parameters of the encoder, the decoder and the cross-attention, FLOPs of a step, and
    the memory of the cache in generation.
    """
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
    "- `headcount ablate experiments/head_count --where wandb`\n\n"
    "- `headcount ablate experiments/head_count --seeds 3,4` adds two seeds\n\n"
    "- `headcount ablate experiments/head_count --until-decided --budget 12` adds seeds where the "
    "study is undecided"
)
def ablate(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT", help="a folder with a grid.yaml")
    ],
    only: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE...]", help="train only the cells with these values"),
    ] = None,
    where: Annotated[
        Literal["local", "slurm", "wandb"],
        typer.Option(help="who trains: this machine, a SLURM job array, or agents of a W&B sweep"),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="number of trainings at a time, which share cores and GPUs; 1, or with --smoke "
            "the number of cores",
        ),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="option of SLURM, as submitit names it: partition, time, gpus_per_node",
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="also train cells that have failed before")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print what would be trained, and start nothing")
    ] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="a few steps of each cell, in a folder of its own")
    ] = False,
    seeds: Annotated[
        str | None, typer.Option(metavar="SEED,...", help="add these seeds to all settings")
    ] = None,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="add seeds to settings that are neither different nor equal within the margin",
        ),
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="HOURS",
            help="with --until-decided: hours of all launches after which no seeds are added; the "
            "seeds of grid.yaml are trained in any case",
        ),
    ] = None,
    expect: Annotated[
        str | None, typer.Option("--expect", hidden=True, help="fingerprint of the study")
    ] = None,
) -> None:
    """Train all cells of a study, one for each setting and seed.

    The same command resumes: it trains what is not finished. The exit status is 0 if all cells are
    finished.
    """
    from headcount.commands.ablate import ablate

    status = ablate(
        experiment,
        only or [],
        where=where,
        workers=workers,
        slurm=slurm,
        retry=retry,
        dry_run=dry_run,
        smoke=smoke,
        seeds=seeds,
        until_decided=until_decided,
        budget=budget,
        expect=expect,
    )
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
        typer.Argument(
            metavar="[tracking.KEY=VALUE...]", help="settings of the report's own W&B run"
        ),
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="report the cells of ablate --smoke")
    ] = False,
) -> None:
    """Write what a study has found so far: tables, a figure, text and a page, into its folder.

    The page, report.html, is one file that needs no network. Cells that are not finished are left
    out.
    """
    from headcount.commands.report import report

    report(experiment, args or [], smoke=smoke)
