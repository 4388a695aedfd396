"""The command ``serve``: a local server of the page of ``headcount page``, with a text box."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import quote

from headcount.commands.page import load_page_run, read_pairs, sort_runs
from headcount.data.pairs import Pairs
from headcount.errors import ConfigError
from headcount.page.payload import Page, PageRun, make_page, without_references
from headcount.terminal import print_line

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MIN_TOKEN = 16  # characters
PATIENCE = 5  # seconds that Ctrl-C waits for the request that is being processed


def serve(
    arguments: Sequence[str],
    *,
    port: int,
    host: str | None = None,
    token: str | None = None,
    documents: int = 5,
) -> None:
    """Serve the page of one or two runs until Ctrl-C.

    Args:
        arguments: as for ``page``.
        port: port to listen on; 0: any free port.
        host: address to listen on; None: 127.0.0.1.
        token: token that requests must have; required if other machines can reach the address.
        documents: number of test documents that the page shows at first.

    Raises:
        ConfigError: the extra ``page`` is not installed, the address cannot be used, or a run
            cannot be loaded.
    """
    try:
        import uvicorn

        from headcount.page.server import make_app
    except ImportError as error:
        raise ConfigError(
            f"serve needs {error.name}, which is not installed; legal: "
            "pip install 'headcount[page]'"
        ) from None
    _check_token(host, token)
    folders, file, overrides = sort_runs(arguments)

    with _listen(host or LOOPBACK[0], port) as listener:
        runs = [load_page_run(folder, overrides) for folder in folders]
        page = _first_page(runs, file, documents)

        # On a loopback address the Host header protects against DNS rebinding. Other addresses
        # have names that the server does not know, and need the token instead.
        number = listener.getsockname()[1]
        is_local = host is None or host in LOOPBACK
        local_hosts = [f"{name}:{number}" for name in ("127.0.0.1", "localhost", "[::1]")]
        hosts = local_hosts if is_local else None
        app = make_app(page, runs, hosts=hosts, token=token or "")

        query = f"/?token={quote(token, safe='')}" if token else "/"
        shown = f"[{host}]" if host and ":" in host else host or LOOPBACK[0]
        print_line(f"http://{shown}:{number}{query}  (Ctrl-C stops)")

        # The page needs neither websockets nor forwarded addresses.
        settings = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=64,
            timeout_graceful_shutdown=PATIENCE,
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises it again after it has stopped
            uvicorn.Server(settings).run(sockets=[listener])
    print_line("stopped")


def _check_token(host: str | None, token: str | None) -> None:
    if token is not None and len(token) < MIN_TOKEN:
        raise ConfigError(
            f"--token has {len(token)} characters; legal: at least {MIN_TOKEN}, hard to guess"
        )
    if host is not None and host not in LOOPBACK and token is None:
        raise ConfigError(
            f"--host {host} gives other machines access; legal: with --token TOKEN, or without "
            "--host"
        )


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, before any model is loaded: the port may be in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--host {host} --port {port}: {reason}; legal: an address of this machine and a free "
            "port"
        ) from None


def _first_page(runs: Sequence[PageRun], file: str | None, documents: int) -> Page:
    """Return the page with its first documents, or with none if their data is not available."""
    pairs: Pairs = without_references([], [])
    if documents:
        try:
            pairs = read_pairs(runs, file, documents)
        except ConfigError as error:
            if file is not None:
                raise
            print_line(f"no test documents: {error}")
    return make_page(pairs, runs, with_heads_off=False, with_text=True)
