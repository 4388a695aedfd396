"""No process outlives the one that it works for, however that one ends.

A process that is killed with SIGKILL can tell nobody. Those that it started would wait for it: for
work, or for its part of a collective operation. So they look at who their parent is.
"""

import atexit
import os
import signal
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from weakref import WeakSet

POLL_SECONDS = 0.5
STOP_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
]


def end_with_parent(parent: int) -> None:
    """End this process, at once and from any place in its code, when its parent has ended.

    Args:
        parent: the process number of the parent; another parent means that it has ended.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent watchdog", daemon=True).start()


def worker_pool(workers: int | None = None) -> ProcessPoolExecutor:
    """Return a pool of new processes; a fork of a process that uses torch may hang.

    The workers end with this process, and leave the signals that stop a run to it.

    Args:
        workers: how many; None: one for each core.
    """
    return ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_become_worker,
        initargs=(os.getpid(),),
    )


def _become_worker(parent: int) -> None:
    ignore_stop_signals()
    end_with_parent(parent)


def ignore_stop_signals() -> None:
    """Leave the signals that stop a run to the process that this one works for.

    A scheduler sends them to all processes. A run whose workers have ended could not reach its
    next checkpoint.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


_killed_at_exit: WeakSet[BaseProcess] = WeakSet()


def kill_at_exit(workers: Iterable[BaseProcess]) -> None:
    """Kill processes when this interpreter exits, also with a traceback.

    Python sends SIGTERM to its daemonic processes and waits for them. Workers ignore SIGTERM, so
    it would wait forever.
    """
    _register_kill()
    _killed_at_exit.update(workers)


@cache
def _register_kill() -> None:
    # What is registered last is called first: before multiprocessing waits.
    atexit.register(_kill)


def _kill() -> None:
    for worker in _killed_at_exit:
        if worker.is_alive():
            worker.kill()
