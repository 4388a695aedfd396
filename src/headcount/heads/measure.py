"""Loss and ROUGE of each document of a sample, under any setting of the heads.

Each measurement has a name and is stored at once, so that an interrupted analysis resumes after
the last one.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headcount.data.batches import EncodedPairs, by_length
from headcount.evaluation.rouge import ROUGE_TYPES
from headcount.heads.importance import example_losses
from headcount.runs.files import unwritable_as_run_error, write_atomically
from headcount.training.module import Summarizer

Values = NDArray[np.float64]


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
    """

    def __init__(
        self,
        summarizer: Summarizer,
        split: EncodedPairs,
        rows: Sequence[int],
        store: MeasurementStore,
        on_measured: Callable[[], None] = lambda: None,
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

    def measure(
        self, name: str, setting: AbstractContextManager[None] | None = None
    ) -> Measurement:
        """Return the measurement of a setting.

        Args:
            name: name of the setting; a stored measurement of this name is returned.
            setting: context manager that sets gates, such as ``ablated(...)``; None: the model is
                measured unchanged.
        """

        def compute() -> dict[str, Any]:
            with setting or nullcontext(), torch.inference_mode():
                measured = self._measure()
            return {"losses": measured.losses.tolist(), "scores": measured.scores.tolist()}

        stored = self.store.get(name, compute)
        self.on_measured()
        return Measurement(losses=np.array(stored["losses"]), scores=np.array(stored["scores"]))

    def _measure(self) -> Measurement:
        losses = np.zeros(len(self.rows))
        scores = np.zeros((len(self.rows), len(ROUGE_TYPES)))
        for batch in self.batches:
            # The loss is that of the reference summaries, under teacher forcing.
            positions = [self._position[row] for row in batch.indices]
            losses[positions] = example_losses(self.summarizer.model, batch).double().cpu().numpy()

            # ROUGE is that of generated summaries.
            texts = self.summarizer.generate_texts(batch, greedy=True)
            for position, row, text in zip(positions, batch.indices, texts, strict=True):
                references = self.split.pairs.references[row]
                scores[position] = np.array(self.summarizer.rouge.score(text, references)) * 100
        return Measurement(losses=losses, scores=scores)
