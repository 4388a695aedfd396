"""The command ``push``: upload an export to the Hugging Face hub."""

from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, get_token

from headcount.commands.export import CardFacts, write_export
from headcount.errors import ConfigError, RunError
from headcount.runs.folder import EXPORT_FILES, RunFile
from headcount.terminal import print_line


def push(run: Path, name: str, facts: CardFacts, *, private: bool = False) -> None:
    """Export a finished run and upload it to the hub, in one commit.

    Args:
        run: the run folder, or an export, which is uploaded unchanged.
        name: id of the model on the hub, ``OWNER/NAME``, or ``NAME`` for the owner of the token.
            It is created if it does not exist.
        facts: facts for the model card; none with an export, which has a card.
        private: create the model as a private one.

    Raises:
        ConfigError: no token is configured, the name is not legal, the run cannot be exported, or
            there are facts for the card of an export.
        RunError: the hub rejects the upload, or cannot be reached.
    """
    if get_token() is None:
        raise ConfigError(
            "no token of the Hugging Face hub is configured; legal: after hf auth login, or with "
            "HF_TOKEN in the environment"
        )

    # A run is exported first, an export is uploaded unchanged.
    with TemporaryDirectory() as scratch:
        folder = run
        is_export = (run / RunFile.EXPORTED_CONFIG).is_file()
        if is_export and facts != CardFacts():
            raise ConfigError(
                f"--license and --language: {run} is an export, which is pushed unchanged; legal: "
                f"neither; edit its {RunFile.CARD} instead"
            )
        if not is_export:
            folder = Path(scratch) / name.rpartition("/")[2]  # its name is the title of the card
            write_export(run, folder, facts)
        url = _upload(folder, name, private=private)
    print_line(f"pushed to {url}")


def _upload(folder: Path, name: str, *, private: bool) -> str:
    """Upload an export, and return its URL."""
    hub = HfApi()
    try:
        url = hub.create_repo(name, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=url.repo_id,
            folder_path=folder,
            allow_patterns=list(EXPORT_FILES),
            commit_message="Upload an export of headcount",
        )
    except ValueError as error:  # an illegal name, or a card that the hub rejects
        raise ConfigError(f"{name}: {error}; legal: OWNER/NAME") from None
    except Exception as error:  # OSError, errors of requests or httpx, RuntimeError of hf_xet
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunError(f"{name}: not pushed: {reason}") from None
    return str(url)
