"""Signals that stop a run: while it trains at the next boundary, with a checkpoint, otherwise at
once.

SIGTERM comes from schedulers, SIGINT from Ctrl-C, SIGHUP from a terminal that is closed, SIGUSR1
from a SLURM that was told to announce the end of the time limit. The exit code is 128 + the
number, as shells count.
"""

import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from headcount.watchdog import STOP_SIGNALS


class Signals:
    """Notes the first signal that asks a run to stop, within a ``with`` block.

    Attributes:
        received: number of the signal; 0 if there was none.
        deferred: whether a callback checks ``received`` and ends the run. Otherwise the signal
            ends the process at once.
    """

    def __init__(self) -> None:
        self.received = 0
        self.deferred = False
        self.process = os.getpid()

    def __enter__(self) -> Self:
        """Install the handlers."""
        self.before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self.earlier_children = {child.pid for child in multiprocessing.active_children()}
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Restore the earlier handlers. An exit that a signal caused gets its exit code."""
        self._end_workers()
        if self._is_main_thread():
            for number, handler in self.before.items():
                signal.signal(number, handler)

        # Lightning exits with 0 after SIGTERM.
        if self.received and isinstance(error, SystemExit):
            raise SystemExit(self.exit_code) from None

    @property
    def exit_code(self) -> int:
        """128 + the signal; that of SIGTERM if another process of the run received it."""
        return 128 + (self.received or signal.SIGTERM)

    def install(self) -> None:
        """Install the handlers, also in place of Lightning's, whose reaction to SIGTERM processes
        cannot agree on.

        A hang-up that is ignored, as under ``nohup``, stays ignored.
        """
        if not self._is_main_thread():
            return
        for number in STOP_SIGNALS:
            is_ignored = number == signal.SIGHUP and self.before[number] == signal.SIG_IGN
            if not is_ignored:
                signal.signal(number, self._handle)

    def _end_workers(self) -> None:
        """Kill workers of loaders that were left in the middle.

        They ignore the signals, so that Python would wait for them at exit.
        """
        if not self._is_main_thread():
            return
        for child in multiprocessing.active_children():
            if child.daemon and child.pid not in self.earlier_children:
                child.kill()

    def _is_main_thread(self) -> bool:
        is_main_thread = threading.current_thread() is threading.main_thread()
        return is_main_thread and os.getpid() == self.process

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # In a worker: the signal reaches it, too, but its run decides when it ends.
        if os.getpid() != self.process:
            return

        self.received = self.received or number
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)  # a second Ctrl-C kills at once
        if not self.deferred:
            raise SystemExit(self.exit_code)
        if number == signal.SIGINT:
            # print is not reentrant
            os.write(2, b"\nCtrl-C: the run ends at its next step; once more: at once\n")
