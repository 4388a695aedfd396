"""SIGTERM and Ctrl-C end a run with 143 and 130: while it trains at the next boundary, otherwise at once."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

SIGNALS = signal.SIGTERM, signal.SIGINT


class Signals:
    """Notes which signal came first, within a ``with`` block.

    Attributes:
        came: its number; 0: none.
        patient: whether something looks at ``came`` and ends the run; otherwise the signal ends it itself.
    """

    def __init__(self) -> None:
        """Note nothing yet."""
        self.came, self.patient, self.process = 0, False, os.getpid()

    def __enter__(self) -> Self:
        """Take the signals."""
        self.before = {number: signal.getsignal(number) for number in SIGNALS}
        self.listen(*SIGNALS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the signals back; an exit that one of them caused says which."""
        if self._in_charge():
            for number, handler in self.before.items():
                signal.signal(number, handler)
        if self.came and isinstance(error, SystemExit):  # Lightning's own for SIGTERM says 0
            raise SystemExit(self.exit_code) from None

    @property
    def exit_code(self) -> int:
        """As a shell counts it; where another process of the run had the signal, that of SIGTERM."""
        return 128 + (self.came or signal.SIGTERM)

    def listen(self, *numbers: signal.Signals) -> None:
        """Take signals, from Lightning, too: what it does on SIGTERM, processes cannot agree on."""
        if self._in_charge():
            for number in numbers:
                signal.signal(number, self._note)

    def _in_charge(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a worker: Ctrl-C reaches it too, but its run says when it ends
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        self.came = self.came or number
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        if not self.patient:
            raise SystemExit(self.exit_code)
        if number == signal.SIGINT:
            os.write(2, b"\nCtrl-C: the run ends at its next step; once more: at once\n")  # print is not reentrant
