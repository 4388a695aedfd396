import os
import signal

import pytest

from headcount.training.signals import Signals
from headcount.watchdog import STOP_SIGNALS


def test_a_second_interrupt_kills_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with Signals() as signals:
        signals.deferred = True
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):  # SLURM may send one twice
            os.kill(os.getpid(), number)
        assert signals.received == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert "once more: at once" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)],
)
def test_lightnings_own_exit_says_which_signal(number: int, code: int) -> None:
    with pytest.raises(SystemExit) as exit, Signals() as signals:
        signals.deferred = True
        os.kill(os.getpid(), number)
        raise SystemExit
    assert exit.value.code == code


def test_an_ignored_hang_up_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            signals.install()
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.received == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_worker_leaves_a_signal_to_its_run(number: signal.Signals) -> None:
    """A scheduler signals the whole group.

    Were a worker to end, its run would fail before it can save.
    """
    with Signals() as signals:
        child = os.fork()
        if not child:
            os.kill(os.getpid(), number)
            os._exit(7 if signals.received == 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_an_ignored_interrupt_is_answered() -> None:
    """A shell without job control ignores it for what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signals.deferred = True
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.received == signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)
