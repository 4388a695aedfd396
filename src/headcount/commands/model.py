"""The command ``model``: heads, parameters and costs of the model of a config as tables."""

from rich.console import Console
from rich.table import Table

from headcount.config.schema import Config
from headcount.model.cost import Cost, cost
from headcount.terminal import make_console


def describe(config: Config, console: Console | None = None) -> None:
    """Print the heads and parameters of each attention site, and parameters, FLOPs and cache size.

    FLOPs are those of the longest document and summary that the config allows, with a vocabulary
    of maximum size.

    Args:
        config: the checked config.
        console: where to print; None: the terminal.
    """
    console = console or make_console()
    model = config.model
    document_tokens = config.data.max_document_tokens
    summary_tokens = config.data.max_summary_tokens
    costs = cost(
        model,
        vocabulary_size=config.tokenizer.vocabulary_size,
        max_positions=config.max_positions,
        document_tokens=document_tokens,
        summary_tokens=summary_tokens,
    )
    title = f"{model.architecture}, embedding_size {model.embedding_size}"
    console.print(_attention_table(costs, title))
    caption = f"FLOPs of {document_tokens:,} document and {summary_tokens:,} summary tokens"
    console.print(_totals_table(costs, caption))


def _attention_table(costs: Cost, title: str) -> Table:
    table = Table("attention", title=title)
    for column in ("layers", "heads", "kv heads", "head_dim", "parameters"):
        table.add_column(column, justify="right")
    for site in costs.sites:
        table.add_row(
            site.name,
            f"{len(site.blocks):,}",
            _by_layer([block.num_heads for block in site.blocks]),
            _by_layer([block.num_kv_heads for block in site.blocks]),
            _by_layer([block.head_dim for block in site.blocks]),
            f"{site.parameters:,}",
        )
    return table


def _by_layer(numbers: list[int]) -> str:
    """Return the number if it is the same in all layers, else the number of each layer."""
    shown = numbers[:1] if len(set(numbers)) == 1 else numbers
    return ", ".join(f"{number:,}" for number in shown)


def _totals_table(costs: Cost, caption: str) -> Table:
    table = Table(show_header=False, caption=caption)
    table.add_column()
    table.add_column(justify="right")
    other_parameters = costs.parameters - costs.embedding_parameters
    table.add_row("parameters", f"{costs.parameters:,}")
    table.add_row("  in embeddings and output", f"{costs.embedding_parameters:,}")
    table.add_row("  elsewhere", f"{other_parameters:,}")
    table.add_row("training FLOPs per token", f"{costs.training_flops_per_token:,.0f}")
    table.add_row("decoding FLOPs per summary token", f"{costs.decoding_flops_per_token:,.0f}")
    table.add_row("cache bytes per document token", f"{costs.cache_bytes_per_document_token:,}")
    table.add_row("cache bytes per summary token", f"{costs.cache_bytes_per_summary_token:,}")
    return table
