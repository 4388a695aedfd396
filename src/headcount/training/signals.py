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
    """Notes which signal came first, within a ``with`` block.

    Attributes:
        came: its number; 0: none.
        patient: whether something looks at ``came`` and ends the run; otherwise the signal ends it
            itself.
    """

    def __init__(self) -> None:
        """Note nothing yet."""
        self.came, self.patient, self.process = 0, False, os.getpid()

    def __enter__(self) -> Self:
        """Take the signals."""
        self.before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self.others = {child.pid for child in multiprocessing.active_children()}
        self.listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signals back; an exit that one of them caused says which."""
        self._end_workers()
        if self._in_charge():
            for number, handler in self.before.items():
                signal.signal(number, handler)
        if self.came and isinstance(error, SystemExit):  # Lightning's own for SIGTERM says 0
            raise SystemExit(self.exit_code) from None

    @property
    def exit_code(self) -> int:
        """As a shell counts it.

        Where another process of the run had the signal, that of SIGTERM.
        """
        return 128 + (self.came or signal.SIGTERM)

    def listen(self) -> None:
        """Take the signals, from Lightning, too: what it does on SIGTERM, processes cannot agree
        on.

        A hang-up that is ignored, as under ``nohup``, stays ignored.
        """
        if self._in_charge():
            for number in STOP_SIGNALS:
                ignored = number != signal.SIGTERM and self.before[number] == signal.SIG_IGN
                if not ignored:
                    signal.signal(number, self._note)

    def _end_workers(self) -> None:
        """Kill workers of loaders that were left in the middle.

        They ignore the signals, and would be waited for.
        """
        if self._in_charge():
            for child in multiprocessing.active_children():
                if child.daemon and child.pid not in self.others:
                    child.kill()

    def _in_charge(self) -> bool:
        return (
            threading.current_thread() is threading.main_thread() and os.getpid() == self.process
        )

    def _note(self, number: int, frame: FrameType | None) -> None:
        if (
            os.getpid() != self.process
        ):  # a worker: the signal reaches it too, but its run says when it ends
            return
        self.came = self.came or number
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        if not self.patient:
            raise SystemExit(self.exit_code)
        if number == signal.SIGINT:
            os.write(
                2, b"\nCtrl-C: the run ends at its next step; once more: at once\n"
            )  # print is not reentrant
