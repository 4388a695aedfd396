"""headcount: how many attention heads does a summarizer need, and which?

The Python interface is ``load_config``, ``build_data``, ``build_module``, ``train``, ``load_run``
and ``Summarizer``; see ``headcount.api``. Importing the package imports neither torch nor
Lightning.
"""

from typing import Any

__all__ = ["Summarizer", "build_data", "build_module", "load_config", "load_run", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from headcount import api

        return getattr(api, name)
    raise AttributeError(f"module 'headcount' has no attribute '{name}'")
