"""Loss and ROUGE of each document of a sample, under any setting of the heads.

Each measurement has a name and is stored at once, so that an interrupted analysis resumes after
the last one. On a CPU several settings are measured side by side, one on each thread: operations
on a batch of short summaries are too small for two threads to share.
"""

import copy
import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headcount.data.batches import EncodedPairs, by_length
from headcount.evaluation.rouge import ROUGE_TYPES
from headcount.heads.blocks import Model
from headcount.heads.encodings import Encodings
from headcount.heads.importance import example_losses
from headcount.runs.files import unwritable_as_run_error, write_atomically
from headcount.training.module import Summarizer

MAX_THREADS = 4  # more would wait for each other: Python code runs on one thread at a time

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting of the heads of a model.

    Attributes:
        name: under which its measurement is stored.
        applied: returns a context manager that sets the heads of a model, such as ``ablated``.
    """

    name: str
    applied: Callable[[Model], AbstractContextManager[None]]


COMPLETE = Setting(name="complete", applied=lambda model: nullcontext())


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Loss and ROUGE of a model on each document of a sample.

    Attributes:
        losses: mean cross-entropy of each reference summary, [documents].
        scores: F1 x 100 of each generated summary, [documents, ROUGE_TYPES].
    """

    losses: Values
    scores: Values

    def rouge(self, kind: str) -> Values:
        """Return the scores of one ROUGE type, [documents]."""
        return self.scores[:, ROUGE_TYPES.index(kind)]


class MeasurementStore:
    """Measurements by name, one JSON line each, in a file that only grows.

    Args:
        path: the file.
        provenance: everything that the measurements depend on, such as the checkpoint and the
            sample. If the file has other values, its measurements are deleted.
    """

    def __init__(self, path: Path, provenance: Mapping[str, Any]) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {}
        # As JSON reads it back, so that a tuple equals the list that is stored of it.
        if not self._read(json.loads(json.dumps(provenance))):
            write_atomically(path, json.dumps({"provenance": provenance}) + "\n")

    def _read(self, provenance: Mapping[str, Any]) -> bool:
        """Read the complete lines; return whether they have this provenance."""
        if not self.path.is_file():
            return False
        end = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines):
                # A killed process can leave part of a line, a crashed machine a block of zeros.
                try:
                    row = json.loads(line)
                except ValueError:
                    break

                # The first line holds what the others depend on.
                if number == 0 and row.get("provenance") != provenance:
                    return False
                if not line.endswith(b"\n"):
                    break
                if number > 0:
                    self.found[row.pop("name")] = row
                end += len(line)

        # Remove what follows the last complete line, so that the next one can be appended.
        if end == 0:
            return False
        os.truncate(self.path, end)
        return True

    def get(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return the row of a name; compute and store it if it is new.

        Args:
            name: name of the row.
            compute: returns its content, which JSON can hold.

        Raises:
            RunError: the file cannot be written.
        """
        if name not in self.found:
            row = dict(compute())
            with unwritable_as_run_error(self.path), self.path.open("ab") as file:
                file.write(json.dumps({"name": name, **row}).encode() + b"\n")
            self.found[name] = row
        return self.found[name]


class HeadEvaluator:
    """Measures a model on a fixed sample of documents.

    Args:
        summarizer: with trained weights, in evaluation mode.
        split: the split that the sample is from.
        rows: the documents of the sample, as rows of the split.
        store: where measurements are stored.
        on_measured: called after each measurement, also after one that was stored already.
        threads: number of settings that are measured at a time; None: on a CPU the number of
            threads of torch, four at most, elsewhere one. Measurements do not depend on it.
    """

    def __init__(
        self,
        summarizer: Summarizer,
        split: EncodedPairs,
        rows: Sequence[int],
        store: MeasurementStore,
        on_measured: Callable[[], None] = lambda: None,
        threads: int | None = None,
    ) -> None:
        self.summarizer = summarizer
        self.split = split
        self.rows = list(rows)
        self.store = store
        self.on_measured = on_measured
        size = summarizer.config.generation.batch_size
        self.batches = [split.batch(batch) for batch in by_length(split, self.rows, size)]
        # Batches are sorted by length; results are in the order of the rows.
        self._position = {row: number for number, row in enumerate(self.rows)}

        # Each thread sets the gates of a copy of its own.
        if threads is None:
            is_on_cpu = summarizer.device.type == "cpu"
            threads = min(torch.get_num_threads(), MAX_THREADS) if is_on_cpu else 1
        self.threads = threads
        self._encodings = Encodings()
        self._idle: SimpleQueue[Summarizer] = SimpleQueue()
        for _ in range(threads):
            self._idle.put(copy_with_shared_weights(summarizer))

    def measure(self, setting: Setting) -> Measurement:
        """Return the measurement of a setting."""
        [measurement] = self.measure_all([setting])
        return measurement

    def measure_all(self, settings: Sequence[Setting]) -> list[Measurement]:
        """Return the measurement of each setting.

        A stored measurement of this name is returned. The others are made, and stored in the order
        of the settings.
        """
        by_name = {setting.name: setting for setting in settings}
        new = [setting for name, setting in by_name.items() if name not in self.store.found]
        measurements = []
        with closing(self._measure_each(new)) as measured:
            for setting in settings:
                # The next new measurement is that of the first setting that is not stored.
                stored = self.store.get(setting.name, lambda: _as_row(next(measured)))
                self.on_measured()
                measurements.append(
                    Measurement(
                        losses=np.array(stored["losses"]), scores=np.array(stored["scores"])
                    )
                )
        return measurements

    def _measure_each(self, settings: Sequence[Setting]) -> Generator[Measurement, None, None]:
        """Yield the measurement of each setting, in this order."""
        if self.threads == 1 or len(settings) < 2:
            yield from map(self._measure, settings)
            return

        # Each thread gets an equal part of torch's own.
        before = torch.get_num_threads()
        of_each = max(1, before // self.threads)
        try:
            with ThreadPoolExecutor(
                self.threads, initializer=torch.set_num_threads, initargs=(of_each,)
            ) as pool:
                yield from pool.map(self._measure, settings)
        finally:
            torch.set_num_threads(before)

    def _measure(self, setting: Setting) -> Measurement:
        summarizer = self._idle.get()
        try:
            model = summarizer.model
            with setting.applied(model), self._encodings.used_by(model), torch.inference_mode():
                return self._measure_documents(summarizer)
        finally:
            self._idle.put(summarizer)

    def _measure_documents(self, summarizer: Summarizer) -> Measurement:
        losses = np.zeros(len(self.rows))
        scores = np.zeros((len(self.rows), len(ROUGE_TYPES)))
        for batch in self.batches:
            # The loss is that of the reference summaries, under teacher forcing.
            positions = [self._position[row] for row in batch.indices]
            losses[positions] = example_losses(summarizer.model, batch).double().cpu().numpy()

            # ROUGE is that of generated summaries.
            texts = summarizer.generate_texts(batch, greedy=True)
            for position, row, text in zip(positions, batch.indices, texts, strict=True):
                references = self.split.pairs.references[row]
                scores[position] = np.array(summarizer.rouge.score(text, references)) * 100
        return Measurement(losses=losses, scores=scores)


def _as_row(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement as the store keeps it."""
    return {"losses": measurement.losses.tolist(), "scores": measurement.scores.tolist()}


def copy_with_shared_weights(summarizer: Summarizer) -> Summarizer:
    """Return a copy whose heads have gates of their own.

    Its weights, its buffers and its tokenizer are those of the original, so that it takes next to
    no memory.
    """
    shared = [*summarizer.parameters(), *summarizer.buffers(), summarizer.tokenizer]
    return copy.deepcopy(summarizer, {id(each): each for each in shared})
