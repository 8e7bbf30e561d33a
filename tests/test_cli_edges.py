"""The command line at the edges of its process: signals, streams that are closed, full or narrow, system errors."""

import os
import signal
import subprocess
import sys

import pytest

import declora
from declora import cli

COMMAND = (sys.executable, "-m", "declora", "topology", "ring", "--clients", "4")
RUN = "import sys; from declora.cli import main; sys.exit(main(sys.argv[1:]))"


def shell(line):
    """Runs a line of shell; returns its status and what was written to standard error."""
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(["bash", "-c", line, *COMMAND], capture_output=True, text=True, env=environment)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ('"$0" "$@" | true; exit ${PIPESTATUS[0]}', 141, ""),
        ('"$0" "$@" >/dev/full', 1, "declora: [Errno 28] No space left on device\n"),
        ('"$0" "$@" <&- >&- 2>&-', 0, ""),
        ('PYTHONIOENCODING=ascii COLUMNS=1 "$0" "$@"', 0, ""),
        ('HOME=/dev/null "$0" "$@"', 0, ""),
    ],
)
def test_streams_that_are_closed_full_or_narrow_end_in_a_line_at_most(line, status, message):
    assert shell(line) == (status, message)


def test_what_an_encoding_lacks_is_replaced():
    code = "import declora.topology as t; t.describe = lambda *a, **k: '\\u2500'; " + RUN
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code, *COMMAND[3:]], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout[0], done.stderr) == (0, "?", "")


# A job in the background of a shell, as a test run may be, ignores SIGINT.
IN_AN_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "declora.kinds":
            try:
                os.kill(os.getpid(), {number})
                os.getpid()  # signals are handled between two instructions
            except BaseException:  # as libraries do
                pass
sys.meta_path.insert(0, Finder())
"""
IN_A_RUN = """
import os, signal, declora
signal.signal(signal.SIGINT, signal.default_int_handler)
def simulate(config):
    os.kill(os.getpid(), {number})
    os.getpid()
declora.simulate = simulate
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", [IN_AN_IMPORT, IN_A_RUN])
def test_a_signal_ends_the_command_in_one_line(where, number):
    code = where.format(number=int(number)) + RUN
    done = subprocess.run([sys.executable, "-c", code, "simulate"], capture_output=True, text=True)
    word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", f"declora: {word}\n")


def test_handlers_of_signals_are_as_before_after_a_command():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert cli.main(["topology", "rnig"]) == 1
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("Unable to allocate 8 TiB"), "declora: out of memory: Unable to allocate 8 TiB\n"),
        (MemoryError(), "declora: out of memory\n"),
        (PermissionError(13, "Permission denied", "x.csv"), "declora: [Errno 13] Permission denied: 'x.csv'\n"),
        (declora.ModelError("a\nb " + "c" * 10_000), None),
    ],
)
def test_an_error_of_the_system_or_a_long_one_is_one_short_line(monkeypatch, capfd, error, message):
    def fail(config):
        raise error

    monkeypatch.setattr(declora, "simulate", fail)
    assert cli.main(["simulate"]) == 1
    shown = capfd.readouterr().err
    assert message is None or shown == message
    assert shown.count("\n") == 1
    assert len(shown) < 1600


def test_unknown_flags_are_one_line_too(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["simulate", "--clinets", "5"])
    assert caught.value.code == 2
    assert (
        capsys.readouterr().err
        == "declora: --clinets is not known; did you mean --clients? See declora simulate --help.\n"
    )
