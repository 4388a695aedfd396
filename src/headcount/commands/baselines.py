"""The command ``baselines``: the scores of the baselines and of the human references."""

from headcount.config.schema import Config
from headcount.data.sources import load_splits
from headcount.evaluation.signature import signature
from headcount.evaluation.systems import measure_baselines
from headcount.evaluation.tables import print_systems
from headcount.terminal import make_console


def baselines(config: Config) -> None:
    """Print the scores of the extractive baselines and of the human references on the test split.

    Args:
        config: the checked config.

    Raises:
        ConfigError: the data cannot be read.
    """
    name = config.data.test_split
    splits, _ = load_splits(config.data, {"test": name})
    pairs = splits["test"]
    systems = measure_baselines(pairs.documents, pairs.references, config.evaluation)
    title = f"{config.data.path}, {name}: {len(pairs.ids):,} examples"
    print_systems(make_console(), title, systems, signature(pairs.references, config.evaluation))
