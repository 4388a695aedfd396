"""The command ``data``: prepare a data set and print its statistics."""

from headcount.config.schema import Config
from headcount.terminal import make_console, print_line
from headcount.training.data_module import SummarizationDataModule


def data(config: Config) -> None:
    """Prepare the data of a config, and print sizes, lengths, novelty, repeats and dropped rows.

    Raises:
        ConfigError: the data cannot be read.
    """
    module = SummarizationDataModule(config)
    module.setup()
    folder = module.audit(make_console(), always=True)
    print_line(f"metrics and plot: {folder}")
