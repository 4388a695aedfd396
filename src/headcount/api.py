"""The Python interface: what a script or a notebook needs, in a few functions.

```python
import headcount
import pytorch_lightning as pl

config = headcount.load_config("configs/docstrings.yaml", overrides=["model.num_heads=8"])
data = headcount.build_data(config)
module = headcount.build_module(config, data)
pl.Trainer(max_steps=100).fit(module, data)

folder = headcount.train(config, callbacks=[MyCallback()])  # as the command does
run = headcount.load_run("runs/docstrings-1")
run.summarize(["A long text."])
run.attention("A long text.")["cross.2"]     # [heads, summary tokens, document tokens]
```
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from headcount.commands.train import train
from headcount.config.load import load
from headcount.config.schema import Config
from headcount.data.batches import Batch
from headcount.data.sources import Datasets
from headcount.errors import ConfigError
from headcount.heads.attention_files import save_maps
from headcount.heads.attention_maps import maps_of_text
from headcount.runs.folder import load_run_config
from headcount.runs.model_hub import find_model
from headcount.training.data_module import SummarizationDataModule
from headcount.training.decoding import document_batches, encode_documents, generate_rows
from headcount.training.ensemble import load_summarizer
from headcount.training.initial_weights import read_initial_weights
from headcount.training.module import Summarizer

__all__ = ["Summarizer", "build_data", "build_module", "load_config", "load_run", "train"]


def load_config(*files: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load a config as the commands do.

    Args:
        files: YAML files; a later one wins.
        overrides: ``KEY=VALUE`` each; they win over the files.

    Raises:
        ConfigError: a key, a value or a file is wrong.
    """
    return load([str(file) for file in files], list(overrides))


def build_data(config: Config, datasets: Datasets | None = None) -> SummarizationDataModule:
    """Return the data of a config, prepared: its splits, tokenizer and loaders.

    Args:
        config: of the run.
        datasets: data sets of ``datasets`` by the names of their splits, such as a
            ``DatasetDict``, instead of ``data.path``.

    Raises:
        ConfigError: the data cannot be read.
    """
    data = SummarizationDataModule(config, datasets=datasets)
    data.setup()
    return data


def build_module(config: Config, data: SummarizationDataModule) -> Summarizer:
    """Return the LightningModule of a config, untrained unless ``model.start_from`` is set.

    Args:
        config: of the run.
        data: from ``build_data``; its tokenizer decides the size of the vocabulary.

    Raises:
        ConfigError: the run that it starts from has another tokenizer or another model.
    """
    summarizer = Summarizer(config, data.tokenizer)
    summarizer.initial_weights = read_initial_weights(config, data.tokenizer)
    return summarizer


def load_run(
    path: str | Path, overrides: Sequence[str] = (), *, others: Sequence[str | Path] = ()
) -> "LoadedRun":
    """Load the best checkpoint of a run, or an export, for generation.

    Args:
        path: a run folder, an export, or the id of an export on the Hugging Face hub. A file is a
            checkpoint, such as one of a plain Trainer; it takes no overrides and no others.
        overrides: ``KEY=VALUE`` each, such as ``generation.strategy=beam``.
        others: further runs of the same tokenizer; summaries are those of the ensemble, attention
            maps those of the first run's model.

    Raises:
        ConfigError: there is no checkpoint, an override changes the trained model, or the runs do
            not go together.
    """
    if Path(path).is_file():
        if overrides or others:
            raise ConfigError(
                f"{path}: a checkpoint is loaded as it is; legal: no overrides and no other runs, "
                "or a run folder or an export"
            )
        module = Summarizer.load_from_checkpoint(path)
        module.to(getattr(torch, module.config.generation.precision))
        return LoadedRun(config=module.config, module=module.eval())

    folder = find_model(Path(path))
    config = load_run_config(folder, list(overrides))
    runs = [folder, *map(Path, others)]
    return LoadedRun(config=config, module=load_summarizer(runs, config))


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A trained summarizer.

    Attributes:
        config: of the run, with the overrides.
        module: the LightningModule; ``module.model`` is the torch model.
    """

    config: Config
    module: Summarizer

    def summarize(self, texts: Sequence[str]) -> list[str]:
        """Return the best summary of each text; an empty one of a blank text."""
        documents = encode_documents(self.module, [text.strip() for text in texts])
        summaries = [""] * len(texts)
        for rows in generate_rows(self.module, document_batches(self.module, documents)):
            for row in rows:
                summaries[row.row] = row.summaries[0].summary
        return summaries

    def tokens(self, text: str) -> list[str]:
        """Return the document tokens of a text, the last axis of its attention maps."""
        batch = self._batch(text)
        return [self.module.tokenizer.decode([token]) for token in batch.document_ids.tolist()]

    def attention(self, text: str) -> dict[str, NDArray[np.float32]]:
        """Generate the summary of a text and return every attention map of the model.

        Returns:
            For each attention block (``encoder.0``, ``decoder.0``, ``cross.0`` and so on) its
            weights [heads, query tokens, key tokens]. Queries of decoder and cross-attention are
            the start token and the summary. GPT reads document and summary as one text.
        """
        return {
            each.block: each.weights.astype(np.float32) for each in maps_of_text(self.module, text)
        }

    def save_attention(self, text: str, path: str | Path) -> None:
        """Write every attention map of the summary of a text as arrays, with the tokens.

        Args:
            text: the document.
            path: an ``.npz`` file, see ``headcount.heads.attention_files``.

        Raises:
            RunError: the file cannot be written.
        """
        save_maps(maps_of_text(self.module, text), self.module.token_name, Path(path))

    def _batch(self, text: str) -> Batch:
        return encode_documents(self.module, [text]).batch([0])
