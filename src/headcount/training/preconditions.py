"""What a training must find before it begins.

Room for its checkpoints, and the data that the run was started with.
"""

import json
import shutil
from pathlib import Path

from headcount.config.schema import Config
from headcount.data.tokenizer import load_tokenizer
from headcount.data.tokens import fingerprint
from headcount.errors import ConfigError
from headcount.model.cost import cost
from headcount.runs.folder import RunFile
from headcount.training.data_module import SummarizationDataModule

PARAMETER_BYTES = 12  # of a checkpoint: a weight and the two moments of AdamW, in fp32
AVERAGE_BYTES = 4  # where the weights are averaged, these are beside the average
CHECKPOINTS = 4  # best, last, previous and the one being written


def check_room(folder: Path, config: Config, vocabulary_size: int) -> None:
    """Refuse to train where the disk cannot take the checkpoints.

    Args:
        folder: the run folder; the checkpoints in it have their room.
        config: the run's.
        vocabulary_size: that of the tokenizer.

    Raises:
        ConfigError: it cannot.
    """
    parameters = cost(
        config.model,
        vocabulary_size=vocabulary_size,
        max_positions=config.max_positions,
        document_tokens=config.data.max_document_tokens,
        summary_tokens=config.data.max_summary_tokens,
    ).parameters
    number = CHECKPOINTS - len(list((folder / RunFile.CHECKPOINTS).glob("*.ckpt")))
    each = PARAMETER_BYTES + (AVERAGE_BYTES if config.optimizer.ema_decay else 0)
    needed, free = number * each * parameters, shutil.disk_usage(folder).free
    if free < needed:
        key = (
            f"run.folder={config.run.folder}"
            if config.run.folder
            else f"run.directory={config.run.directory}"
        )
        raise ConfigError(
            f"{key}: {free / 1e9:,.2f} GB are free on its disk, {number} checkpoints of "
            f"{parameters:,} parameters need "
            f"{needed / 1e9:,.2f} GB; legal: a place with as much"
        )


def check_same_data(folder: Path, config: Config, data: SummarizationDataModule) -> None:
    """Reject the resume of a run whose data or tokenizer has changed behind its config.

    Raises:
        ConfigError: it has.
    """
    if (folder / RunFile.DATA).exists():
        before = json.loads((folder / RunFile.DATA).read_text(encoding="utf-8"))
        for role in ("train", "validation", "test"):
            if (now := data.origin[role]["sha256"]) != (then := before[role]["sha256"]):
                raise ConfigError(
                    f"data.path={config.data.path}: its {role} split has the SHA-256 {now}, and "
                    f"{folder} was started "
                    f"with another; legal: {then}, or --fresh"
                )
    path = folder / RunFile.TOKENIZER
    if path.exists() and fingerprint(load_tokenizer(path)) != fingerprint(data.tokenizer):
        raise ConfigError(
            f"tokenizer.path={config.tokenizer.path or 'null'}: the tokenizer is not that with "
            f"which {folder} was "
            f"started; legal: the same, or --fresh"
        )
