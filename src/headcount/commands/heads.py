"""The command ``heads``: which heads of a trained summarizer matter, and their roles.

An analysis is a folder ``RUN/heads-N``. An interrupted analysis is resumed. The measurements of a
finished one with the same settings are read from its folder, not repeated.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from headcount.config.load import as_dict, flatten, to_yaml
from headcount.config.schema import Config
from headcount.data.batches import EncodedPairs
from headcount.data.files import digest
from headcount.errors import ConfigError
from headcount.escape import markdown_prose
from headcount.heads.across import compare_runs
from headcount.heads.across_report import (
    across_csv,
    across_findings,
    across_markdown,
    draw_mean_curves,
    draw_profiles,
)
from headcount.heads.analysis import Analysis, analyse, count_measurements
from headcount.heads.attention_maps import attention_maps
from headcount.heads.findings import findings
from headcount.heads.measure import HeadEvaluator, MeasurementStore
from headcount.heads.plots import draw_attention, draw_curves, draw_heat_maps, save_plot
from headcount.heads.tables import (
    SUMMARY,
    as_latex,
    as_markdown,
    curves_csv,
    heads_csv,
    print_heads,
    summary_rows,
)
from headcount.runs.checkpoint import checkpoint_path
from headcount.runs.files import write_atomically
from headcount.runs.folder import (
    HEAD_ANALYSIS_KEYS,
    RunFile,
    create_numbered_folder,
    load_run_config,
    lock_folder,
)
from headcount.runs.wandb_tracking import track, tracking_after_training
from headcount.terminal import make_console, print_on
from headcount.training.callbacks.progress import progress_bar
from headcount.training.data_module import SummarizationDataModule
from headcount.training.decoding import move_to_gpu_if_any
from headcount.training.ensemble import load_summarizer
from headcount.training.module import Summarizer

VERSION = 1  # of the measurements; increase it when a change makes stored ones invalid
SAMPLE_SEED = 0


def analyse_heads(run: Path, config: Config) -> tuple[Path, Analysis]:
    """Analyse the heads of a run or an export; write tables, plots and findings; print a summary.

    Args:
        run: the run folder, or an export.
        config: the run's config, with changes.

    Returns:
        The folder of the analysis and its results.

    Raises:
        ConfigError: the run is not complete, a setting of its model is changed, or its data is not
            available.
    """
    # The model, with its best weights.
    console = make_console()
    summarizer = load_summarizer([run], config)
    move_to_gpu_if_any(summarizer)

    # The sample of documents.
    data = SummarizationDataModule(
        config,
        summarizer.tokenizer,
        split=config.heads.split,
        trained=load_run_config(run, []).data,
    )
    data.setup()
    split = data.splits[config.heads.split]
    rows = sample_rows(len(split), config.heads.documents)

    # Measure, or read what an earlier analysis has measured.
    provenance = _provenance(run, config, data)
    with ExitStack() as locks:
        folder = _lock_analysis(run, provenance, locks)
        write_atomically(folder / RunFile.CONFIG, to_yaml(config))
        analysis = _measure(summarizer, split, rows, folder, provenance, console)
        _write(folder, analysis, summarizer, split, rows)
        _log_to_wandb(config, folder, analysis)

    title = f"{run}: heads on {len(rows)} {config.heads.split} documents"
    print_heads(console, title, analysis)
    for sentence in findings(analysis):
        print_on(console, f"\n- {sentence}")
    print_on(console, f"\nanalysis: {folder}")
    return folder, analysis


def compare_heads(configs: Mapping[Path, Config]) -> Path:
    """Analyse the heads of several runs and compare their profiles.

    Args:
        configs: for each run folder or export its config. The comparison is written into the
            first folder.

    Returns:
        The folder of the comparison.
    """
    analyses = {}
    for run, config in configs.items():
        _, analyses[str(run)] = analyse_heads(run, config)
    comparison = compare_runs(analyses)
    sentences = across_findings(comparison)

    folder = create_numbered_folder(next(iter(configs)), "heads-comparison")
    write_atomically(folder / "comparison.csv", across_csv(comparison))
    save_plot(draw_profiles(comparison), folder, "profiles")
    save_plot(draw_mean_curves(comparison), folder, "curves")
    bullets = "".join(f"- {markdown_prose(sentence)}\n" for sentence in sentences)
    write_atomically(folder / "comparison.md", f"{bullets}\n{across_markdown(comparison)}")

    console = make_console()
    print_on(console, f"\n{len(analyses)} runs compared", style="bold")
    for sentence in sentences:
        print_on(console, f"\n- {sentence}")
    print_on(console, f"\ncomparison: {folder}")
    return folder


def sample_rows(examples: int, documents: int) -> list[int]:
    """Return the rows of the fixed random sample of a split, in ascending order."""
    drawn = np.random.default_rng(SAMPLE_SEED).permutation(examples)[:documents]
    return sorted(drawn.tolist())


def _provenance(run: Path, config: Config, data: SummarizationDataModule) -> dict[str, Any]:
    """Return everything that the measurements depend on."""
    settings = {}
    for key, value in flatten(as_dict(config)).items():
        if key.startswith((*HEAD_ANALYSIS_KEYS, "generation.", "evaluation.", "data.max_")):
            settings[key] = value
    return {
        "version": VERSION,
        "checkpoint": digest(checkpoint_path(run, "best")),
        "documents": data.origin[config.heads.split]["sha256"],
        "settings": settings,
    }


def _lock_analysis(run: Path, provenance: dict[str, Any], locks: ExitStack) -> Path:
    """Lock and return the folder of an earlier analysis of equal provenance, or a new one."""
    # As JSON reads it back, so that a tuple equals the list that is stored of it.
    expected = json.loads(json.dumps(provenance))
    for file in sorted(run.glob(f"heads-*/{RunFile.MEASUREMENTS}")):
        with file.open("rb") as lines:
            first = lines.readline()
        with suppress(ValueError, ConfigError):  # damaged, or locked by another process
            if json.loads(first).get("provenance") == expected:
                locks.enter_context(lock_folder(file.parent))
                return file.parent
    folder = create_numbered_folder(run, "heads")
    locks.enter_context(lock_folder(folder))
    return folder


def _measure(
    summarizer: Summarizer,
    split: EncodedPairs,
    rows: Sequence[int],
    folder: Path,
    provenance: dict[str, Any],
    console: Console,
) -> Analysis:
    """Analyse the model, with a progress bar and stored measurements."""
    store = MeasurementStore(folder / RunFile.MEASUREMENTS, provenance)
    if store.found:
        print_on(console, f"{folder}: resumes after {len(store.found):,} measurements")
    with progress_bar(console) as progress:
        total = count_measurements(summarizer.config, summarizer.model)
        task = progress.add_task("measuring heads", total=total, note="")
        evaluator = HeadEvaluator(
            summarizer, split, rows, store, on_measured=lambda: progress.advance(task)
        )
        analysis = analyse(evaluator)
        progress.update(task, completed=total)
    return analysis


def _write(
    folder: Path,
    analysis: Analysis,
    summarizer: Summarizer,
    split: EncodedPairs,
    rows: Sequence[int],
) -> None:
    """Write the tables, the plots and the findings of an analysis."""
    write_atomically(folder / RunFile.HEADS, heads_csv(analysis))
    write_atomically(folder / RunFile.CURVES, curves_csv(analysis))
    write_atomically(folder / "table.md", as_markdown(analysis))
    write_atomically(folder / "table.tex", as_latex(analysis))

    save_plot(draw_heat_maps(analysis), folder, "heat_maps")
    save_plot(draw_curves(analysis), folder, "pruning")

    # The attention on the shortest document has the most legible panels.
    shortest = min(rows, key=lambda row: int(split.document_lengths[row]))
    maps = attention_maps(summarizer.model, split.batch([shortest]))
    save_plot(draw_attention(maps, analysis.heads), folder, "attention")

    sentences = "".join(f"- {markdown_prose(sentence)}\n" for sentence in findings(analysis))
    write_atomically(folder / RunFile.FINDINGS, sentences)  # last: the analysis is complete


def _log_to_wandb(config: Config, folder: Path, analysis: Analysis) -> None:
    """Log an analysis as a separate W&B run, which links to the training."""
    run = folder.parent
    tracking = tracking_after_training(config, run)
    with track(tracking, folder, as_dict(config), job_type="heads", trainings=[run]) as trackers:
        for tracker in trackers:
            columns = [column.title for column in SUMMARY]
            tracker.log_table("heads", columns=columns, data=summary_rows(analysis))
            for name in ("heat_maps", "pruning", "attention"):
                tracker.log_image(name, [str(folder / f"{name}.png")])
