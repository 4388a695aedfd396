"""Print a model as a table: heads and parameters by place, and what it costs."""

from rich.console import Console
from rich.table import Table

from headcount.config.schema import Config
from headcount.model.cost import cost
from headcount.terminal import make_console


def describe(config: Config, console: Console | None = None) -> None:
    """Print the heads, parameters, FLOPs and cache of the model that a config describes.

    FLOPs are those of the longest document and summary that the config allows; the vocabulary is
    as large as it may be.

    Args:
        config: the checked config.
        console: where to print; None: the terminal.
    """
    console = console or make_console()
    documents, summaries = config.data.max_document_tokens, config.data.max_summary_tokens
    found = cost(
        config.model,
        vocabulary_size=config.tokenizer.vocabulary_size,
        max_positions=config.max_positions,
        document_tokens=documents,
        summary_tokens=summaries,
    )
    model = config.model
    blocks = Table(
        "attention", title=f"{model.architecture}, embedding_size {model.embedding_size}"
    )
    for column in ("layers", "heads", "kv heads", "head_dim", "parameters"):
        blocks.add_column(column, justify="right")
    for place in found.places:
        numbers = (
            place.layers,
            place.num_heads,
            place.num_kv_heads,
            place.head_dim,
            place.parameters,
        )
        blocks.add_row(place.name, *(f"{number:,}" for number in numbers))
    console.print(blocks)
    totals = Table(
        show_header=False,
        caption=f"FLOPs of {documents:,} document and {summaries:,} summary tokens",
    )
    totals.add_column()
    totals.add_column(justify="right")
    rest = found.parameters - found.embedding_parameters
    totals.add_row("parameters", f"{found.parameters:,}")
    totals.add_row("  in embeddings and output", f"{found.embedding_parameters:,}")
    totals.add_row("  elsewhere", f"{rest:,}")
    totals.add_row("training FLOPs a token", f"{found.training_flops_per_token:,.0f}")
    totals.add_row("decoding FLOPs a summary token", f"{found.decoding_flops_per_token:,.0f}")
    totals.add_row("cache bytes a document token", f"{found.cache_bytes_per_document_token:,}")
    totals.add_row("cache bytes a summary token", f"{found.cache_bytes_per_summary_token:,}")
    console.print(totals)
