"""The command that scores baselines: it needs data, but no model."""

from headcount.config.schema import Config
from headcount.data.sources import load_splits
from headcount.evaluation.signature import signature
from headcount.evaluation.systems import measure_baselines
from headcount.evaluation.tables import print_systems
from headcount.terminal import make_console


def baselines(config: Config) -> None:
    """Print the scores of the configured baselines, and of people, on the test split.

    Args:
        config: its ``data``, ``evaluation`` and ``seed`` are used.

    Raises:
        ConfigError: the data cannot be had.
    """
    name = config.data.test_split
    splits, _ = load_splits(config.data, {"test": name})
    pairs = splits["test"]
    systems = measure_baselines(pairs.documents, pairs.references, config.evaluation, config.seed)
    title = f"{config.data.path}, {name}: {len(pairs.ids):,} examples"
    print_systems(make_console(), title, systems, signature(pairs.references, config.evaluation))
