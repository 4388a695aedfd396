"""The command ``evaluate``: generate the test summaries of finished runs and score them.

An evaluation writes the summaries, the metrics of each example, all scores with intervals and
alarms, the time per summary, and a plot of the cross-attention. ``RunFile`` names the files.
"""

import glob
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from headcount.config.load import as_dict, to_yaml
from headcount.config.schema import Config
from headcount.data.loader import decoding_loader
from headcount.data.tokenizer import load_tokenizer
from headcount.errors import ConfigError
from headcount.evaluation.report import ScoreReport, report
from headcount.evaluation.tables import print_report
from headcount.plot_style import save_figure
from headcount.runs.files import unwritable_as_run_error, write_atomically
from headcount.runs.folder import (
    WRITTEN_AT_START,
    RunFile,
    create_numbered_folder,
    current_folder,
    differences,
    load_run_config,
    lock_folder,
    stable_path,
)
from headcount.runs.loggers import log_means
from headcount.runs.model_hub import hub_name
from headcount.runs.partial_predictions import PartialPredictions, read_provenance
from headcount.runs.scores import write_results
from headcount.runs.wandb_tracking import (
    log_report,
    log_summaries,
    sync_command,
    track,
    tracking_after_training,
)
from headcount.terminal import make_console, print_line, print_on
from headcount.training.callbacks.cost_meter import add_costs
from headcount.training.data_module import SummarizationDataModule
from headcount.training.decoding import (
    GeneratedRow,
    describe_long_documents,
    generate_rows,
    move_to_device,
    resume,
    summary_bar,
)
from headcount.training.ensemble import (
    check_held_out,
    check_runs,
    describe_system,
    digest_checkpoints,
    load_runs,
    relative_names,
)
from headcount.training.generated_summary import GeneratedSummary
from headcount.training.module import Summarizer
from headcount.training.processes import silence_other_ranks, start_other_ranks
from headcount.training.signals import Signals
from headcount.training.trainer import make_trainer


def evaluate(
    run: Path,
    config: Config,
    *,
    others: Sequence[Path] = (),
    out: Path | None = None,
    shuffle_sources: bool = False,
) -> None:
    """Generate and score the test summaries of a run again, or those of several runs as an
    ensemble.

    The folder is ``RUN/evaluation-N``; for an ensemble ``RUN.ensemble-N``, next to the first run;
    for a model from the hub ``NAME.evaluation-N`` in the current folder. An interrupted evaluation
    of the same config and runs is resumed in its folder. A finished one in ``out`` is left alone.

    Args:
        run: a run folder or an export.
        config: the run's config, with changes. It also names the data.
        others: further runs; their next-token distributions are averaged with those of the first.
        out: another folder to write into.
        shuffle_sources: also score each summary against the references of another document: a
            lower bound that a model exceeds if its summaries depend on the documents.

    Raises:
        ConfigError: a run is not complete, a setting of its model is changed, the runs cannot be
            combined, one has trained on test examples, the data is not available, or ``out`` has
            something else in it.
        SystemExit: with 128 + the signal that stopped the evaluation.
    """
    runs = [run, *others]
    check_runs(runs, config)
    check_held_out(runs, config)
    if out is not None:
        _check_output(out, config, runs)

    console = make_console()
    with Signals(), ExitStack() as locks:
        trainer = make_trainer(config, loggers=[], callbacks=[])
        silence_other_ranks(trainer)
        tokenizer = load_tokenizer(run / RunFile.TOKENIZER)
        trained = load_run_config(run, []).data
        data = SummarizationDataModule(config, tokenizer, trained=trained)
        data.trainer = trainer
        data.setup()

        # A finished evaluation is left as it is.
        settings = {**_provenance(runs, data), "shuffle_sources": shuffle_sources}
        if out is not None and _is_finished(out, settings):
            print_line(f"{out}: finished")
            return

        # The first process chooses the folder, and writes the config, the names of the runs, and
        # what the results depend on besides.
        locked = None
        if trainer.is_global_zero:
            locked = _lock_evaluation(runs, config, out, locks)
        folder = start_other_ranks(trainer, locked)
        if trainer.is_global_zero:
            write_atomically(folder / RunFile.CONFIG, to_yaml(config))
            if others or out is not None or hub_name(run) is not None:
                names = relative_names(runs, folder)
                write_atomically(folder / RunFile.MODELS, json.dumps(names, indent=2))
                write_atomically(folder / RunFile.PROVENANCE, json.dumps(settings, indent=2))

        # Generate and score.
        summarizer = Summarizer(config, data.tokenizer)
        scored = score_test(
            trainer, summarizer, data, runs, folder, shuffle_sources=shuffle_sources
        )
        if scored is not None:
            _log_to_wandb(config, runs, folder, scored)
    print_on(console, f"\nevaluation folder: {folder}")
    if command := sync_command(folder):
        print_on(console, f"to send this evaluation to your W&B account: {command}")


def _log_to_wandb(config: Config, runs: Sequence[Path], folder: Path, scored: ScoreReport) -> None:
    """Log an evaluation as a separate W&B run, which links to the trainings."""
    tracking = tracking_after_training(config, runs[0])
    step = json.loads((folder / RunFile.SCORES).read_text(encoding="utf-8"))["step"]
    with track(
        tracking, folder, as_dict(config), job_type="evaluation", trainings=runs
    ) as trackers:
        log_means(trackers, scored, step)
        log_report(trackers, scored)
        log_summaries(trackers, scored, folder / RunFile.PREDICTIONS)


def _check_output(out: Path, config: Config, runs: Sequence[Path]) -> None:
    """Reject a folder that has something else in it than an evaluation of these runs with this
    config, finished or interrupted."""
    if not out.is_dir() or {path.name for path in out.iterdir()} <= set(WRITTEN_AT_START):
        return
    if not (out / RunFile.MODELS).is_file():
        raise ConfigError(f"--out={out}: holds no evaluation; legal: a new or an empty folder")
    if not _is_of_runs(out, runs):
        raise ConfigError(f"--out={out}: holds an evaluation of other runs; legal: a new folder")
    changes = differences(out, config)
    if changes:
        raise ConfigError(f"--out={out}: started with {changes[0]}; legal: a new folder")


def _provenance(runs: Sequence[Path], data: SummarizationDataModule) -> dict[str, Any]:
    """Return what the summaries depend on beside the config: digests of weights and documents."""
    return {"checkpoint": digest_checkpoints(runs), "documents": data.origin["test"]["sha256"]}


def _is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Return whether the evaluation in a folder is complete.

    An interrupted one may have other settings: its summaries are generated again where they
    depend on them.

    Args:
        out: a folder that ``_check_output`` accepts.
        settings: what the results depend on, beside the names of the runs and the config.

    Raises:
        ConfigError: it is complete, with other settings, or with unknown ones.
    """
    if not (out / RunFile.SCORES).exists():
        return False
    stamp = out / RunFile.PROVENANCE
    earlier = read_provenance(stamp)
    if earlier is None:
        raise ConfigError(
            f"--out={out}: {stamp.name}, which names the evaluated weights, is missing or "
            "damaged; legal: a new folder"
        )
    for name, value in settings.items():
        if earlier.get(name) != value:
            raise ConfigError(
                f"--out={out}: started with {name}={earlier.get(name)}, not {value}; legal: a new "
                "folder"
            )
    return True


def _lock_evaluation(
    runs: Sequence[Path], config: Config, out: Path | None, locks: ExitStack
) -> Path:
    """Lock and return the folder to write into.

    It is ``out``, or the folder of an interrupted evaluation of the same config and runs, or a new
    one.
    """
    if out is not None:
        locks.enter_context(lock_folder(out))
        return out

    # An evaluation is in its run folder; that of an ensemble is next to its first run; that of a
    # model from the hub is in the current folder.
    is_ensemble = len(runs) > 1
    kind = "ensemble" if is_ensemble else "evaluation"
    first = runs[0].resolve()
    if name_on_hub := hub_name(runs[0]):
        parent = Path.cwd()
        name = f"{name_on_hub}.{kind}"
    elif is_ensemble:
        parent = first.parent
        name = f"{first.name}.{kind}"
    else:
        parent = runs[0]
        name = kind

    # Resume an interrupted evaluation.
    for config_file in parent.glob(f"{glob.escape(name)}-*/{RunFile.CONFIG}"):
        folder = config_file.parent
        if (folder / RunFile.SCORES).exists() or differences(folder, config):
            continue
        if parent != runs[0] and not _is_of_runs(folder, runs):
            continue
        # A ConfigError means that another process has the lock.
        with suppress(ConfigError), ExitStack() as own_locks:
            own_locks.enter_context(lock_folder(folder))
            # Another process may have finished it before this one got the lock.
            if not (folder / RunFile.SCORES).exists():
                locks.push(own_locks.pop_all())
                return folder

    # Start a new one.
    folder = create_numbered_folder(parent, name)
    locks.enter_context(lock_folder(folder))
    return folder


def _is_of_runs(folder: Path, runs: Sequence[Path]) -> bool:
    """Return whether the evaluation in a folder is of these runs, in this order."""
    try:
        names = json.loads((folder / RunFile.MODELS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(names == relative_names(runs, folder))


def score_test(
    trainer: pl.Trainer,
    summarizer: Summarizer,
    data: SummarizationDataModule,
    runs: Sequence[Path],
    folder: Path,
    *,
    shuffle_sources: bool = False,
) -> ScoreReport | None:
    """Generate the test summaries with the best weights, score them, write and print the results.

    Summaries of an interrupted evaluation are not generated again.

    Args:
        trainer: determines device, precision and processes.
        summarizer: the best weights of the runs are loaded into it.
        data: the data module, with the test split.
        runs: the run folders; several generate as an ensemble.
        folder: the folder to write into.
        shuffle_sources: see ``evaluate``.

    Returns:
        The report; None on all processes but the first.
    """
    step = load_runs(summarizer, runs)
    partial = _generate(trainer, summarizer, data, _provenance(runs, data), folder)
    if not trainer.is_global_zero:
        return None
    folder = current_folder(folder)

    # Collect the summaries of all processes, in the order of the split.
    summaries = []
    milliseconds = 0.0
    for row in partial:
        milliseconds += row.pop("milliseconds")
        summaries.append(GeneratedSummary(**row))
    add_costs(folder, {"decode_ms_per_summary": milliseconds / max(1, len(summaries))})

    # Write the summaries, and plot the attention on the shortest document.
    split = data.splits["test"]
    ids = [split.pairs.ids[each.row] for each in summaries]
    references = [split.pairs.references[each.row] for each in summaries]
    documents = [split.pairs.documents[each.row] for each in summaries]
    _write_predictions(folder, ids, documents, summaries, references)
    figure = summarizer.plot_attention(split.shortest())
    plot = folder / RunFile.ATTENTION_PLOT
    with unwritable_as_run_error(plot):
        save_figure(figure, plot, dpi=figure.dpi)

    # Score the summaries.
    config = data.config
    scored = report(
        [each.summary for each in summaries],
        [each.truncated for each in summaries],
        documents,
        references,
        evaluation=config.evaluation,
        shuffle_sources=shuffle_sources,
        name="model" if len(runs) == 1 else "system",
    )
    name = config.data.test_split or "test"
    system = describe_system(runs, config)
    write_results(folder, scored, ids, split=name, seed=config.seed, step=step, system=system)

    # Print the scores and five samples.
    console = make_console()
    print_report(console, f"{config.data.path}, {name}: {len(ids):,} examples", scored)
    if system is not None:
        print_on(console, f"{scored.systems[0].name}: {system}")
    for each in summaries[:: max(1, len(summaries) // 5)][:5]:
        reference = split.pairs.references[each.row][0]
        print_on(console, f"\n{split.pairs.ids[each.row]}", style="bold")
        print_on(console, f"  reference  {reference}\n  summary    {each.summary}")
    long_documents = describe_long_documents(config, split.cut_documents, len(split.pairs))
    if long_documents:
        print_on(console, long_documents)
    partial.remove()
    return scored


def _generate(
    trainer: pl.Trainer,
    summarizer: Summarizer,
    data: SummarizationDataModule,
    provenance: Mapping[str, Any],
    folder: Path,
) -> PartialPredictions:
    """Generate the test summaries that are not in the partial predictions, on all processes.

    Args:
        trainer: determines device, precision and processes.
        summarizer: has the best weights.
        data: the data module, with the test split.
        provenance: of the summaries; partial predictions of another one are deleted.
        folder: the folder of the run or evaluation, which a user may rename meanwhile.
    """
    # Resume after the summaries of an interrupted evaluation.
    split = data.splits["test"]
    parts = stable_path(folder) / RunFile.PARTIAL_PREDICTIONS
    partial = resume(trainer, parts, len(split), provenance)
    examples = data.decoded_examples("test")
    number = int(partial.done.sum())
    if number:
        print_line(f"{folder}: resumes after {number:,} of {len(examples):,} summaries")

    loader = decoding_loader(
        split,
        examples,
        data.config.generation.batch_size,
        num_workers=data.config.data.num_workers,
        process=trainer.global_rank,
        processes=trainer.world_size,
        done=partial.done,
        in_windows=data.config.generation.long_documents == "split",
    )

    # Each process generates its share.
    move_to_device(summarizer, trainer)
    remaining = int((~partial.done[examples]).sum())
    if remaining:
        share = math.ceil(remaining / trainer.world_size)
        with summary_bar(make_console(), share) as advance:
            for rows in generate_rows(summarizer, loader, trainer):
                partial.append([_partial_row(row) for row in rows])
                advance(len(rows))
    trainer.strategy.barrier()
    partial.read()
    return partial


def _partial_row(row: GeneratedRow) -> dict[str, Any]:
    return {**asdict(row.summaries[0]), "milliseconds": row.milliseconds}


def _write_predictions(
    folder: Path,
    ids: Sequence[str],
    documents: Sequence[str],
    summaries: Sequence[GeneratedSummary],
    references: Sequence[Sequence[str]],
) -> None:
    def lines() -> Iterator[str]:
        for index, generated in enumerate(summaries):
            row = {
                "id": ids[index],
                "summary": generated.summary,
                "truncated": generated.truncated,
                "references": references[index],
                "document": documents[index],
            }
            yield json.dumps(row, ensure_ascii=False) + "\n"

    write_atomically(folder / RunFile.PREDICTIONS, lines())
