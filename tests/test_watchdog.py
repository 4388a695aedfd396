import os
import signal
import subprocess
import sys
import time

from headcount.watchdog import worker_pool

SCRIPT = """
import os, time
from headcount.watchdog import worker_pool

if __name__ == "__main__":
    with worker_pool(2) as pool:
        for number in set(pool.map(work, range(8))):
            print(number, flush=True)
        print("end", flush=True)
        time.sleep(60)
"""
WORK = """
import os, time

def work(_):
    time.sleep(0.2)
    return os.getpid()
"""


def is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def number_of(_: int) -> int:
    return os.getpid()


def test_workers_end_with_a_process_that_is_killed(tmp_path) -> None:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "script.py").write_text("from work import work" + SCRIPT)
    process = subprocess.Popen([sys.executable, "script.py"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    workers = [int(line) for line in iter(process.stdout.readline, "end\n")]
    assert workers and all(map(is_alive, workers))
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def test_workers_leave_signals_to_their_process() -> None:
    with worker_pool(1) as pool:
        [worker] = pool.map(number_of, [0])
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGHUP)
        time.sleep(0.1)
        assert list(pool.map(number_of, [0])) == [worker]
