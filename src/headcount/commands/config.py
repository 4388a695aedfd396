"""The command ``config``: print the resolved config, or every key of the schema."""

from headcount.config import load as compose
from headcount.errors import ConfigError
from headcount.terminal import print_line


def config(arguments: list[str], *, schema: bool = False) -> None:
    """Print a resolved config, or the schema.

    Args:
        arguments: config files and ``KEY=VALUE`` overrides.
        schema: print every key with its type, default and meaning instead.

    Raises:
        ConfigError: there are no arguments, or a file or an override is not legal.
    """
    if schema:
        print_line(compose.schema())
        return
    if not arguments:
        raise ConfigError("config: no files; legal: CONFIG... [KEY=VALUE...], or --schema")
    files, overrides = compose.sort_arguments(arguments)
    print_line(compose.to_yaml(compose.load(files, overrides)), end="")
