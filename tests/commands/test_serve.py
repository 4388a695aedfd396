import http.client
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headcount import cli
from headcount.commands.serve import serve
from headcount.errors import ConfigError


def assert_answers(line: str) -> None:
    """Check the line with the address, and that it answers."""
    port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/  \(Ctrl-C stops\)\n", line)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert answer.status == 200 and b"</html>" in answer.read()


def test_it_prints_its_address_answers_and_stops(finished_run: Path) -> None:
    arguments = ["serve", str(finished_run), "--port", "0", "--documents", "1"]
    command = [sys.executable, "-m", "headcount", *arguments]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert_answers(server.stdout.readline())
    os.kill(server.pid, signal.SIGINT)
    out, err = server.communicate(timeout=30)
    assert (server.returncode, out, err) == (0, "stopped\n", "")


def test_a_scheduler_stops_it_in_silence(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a fork of this process, which has everything imported."""
    arguments = ["serve", str(finished_run), "--port", "0", "--documents", "1"]
    monkeypatch.setattr(sys, "argv", ["headcount", *arguments])
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        with open(theirs, "w", buffering=1) as both:
            sys.stdout = sys.stderr = both
            cli.main()
        os._exit(0)
    os.close(theirs)
    with open(ours) as printed:
        assert_answers(printed.readline())
        os.kill(child, signal.SIGTERM)
        assert printed.read() == ""
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM


def test_mistakes_are_one_line(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        for arguments, message in (
            ({"host": "0.0.0.0"}, "legal: with --token"),
            ({"token": "short"}, "--token has 5 characters"),
            ({"host": "0.0.0.0", "token": "short"}, "--token has 5 characters"),
            ({"port": port}, f"--port {port}: Address already in use"),
            ({"port": 70_000}, "--port 70000"),
            (
                {"host": "no.such.host.invalid", "token": "0123456789abcdef"},
                "no.such.host.invalid",
            ),
        ):
            with pytest.raises(ConfigError, match=re.escape(message)):
                serve([str(finished_run)], **{"port": 0, **arguments})
    with pytest.raises(ConfigError, match="nothing: not a run folder"):
        serve(["nothing"], port=0)
    with pytest.raises(ConfigError, match="in.txt: No such file"):
        serve([str(finished_run), "in.txt"], port=0)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'headcount[page]'")):
        serve([str(finished_run)], port=0)
