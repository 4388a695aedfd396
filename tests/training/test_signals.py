import os
import signal

import pytest

from headcount.training.signals import Signals


def test_a_second_interrupt_kills_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with Signals() as signals:
        signals.patient = True
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):  # SLURM may send one twice
            os.kill(os.getpid(), number)
        assert signals.came == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert "once more: at once" in capfd.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_lightnings_own_exit_says_which_signal(number: int, code: int) -> None:
    with pytest.raises(SystemExit) as exit, Signals() as signals:
        signals.patient = True
        os.kill(os.getpid(), number)
        raise SystemExit
    assert exit.value.code == code


def test_a_worker_leaves_an_interrupt_to_its_run() -> None:
    with Signals() as signals:
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(7 if signals.came == 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
