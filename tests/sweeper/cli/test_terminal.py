"""What reaches a terminal, a pipe or a log that is not as one would wish; each in a process of its own."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sweeper.cli.calls import sweep_at

SPEAK = r"""
import sys
from sweeper.cli.terminal import lasting_output
from rich.console import Console
from rich.table import Table
with lasting_output():
    table = Table(title="0.9 \xb1 0.1 \u2192 caf\xe9")
    table.add_column("\u4e2d \u2264 \udcff")
    Console(width=60).print(table)
    print("\xb1 \u2026", flush=True)
    print("ended", file=sys.stderr)
    sys.exit()
"""
LITTLE = """
import sys
from sweeper.cli.terminal import lasting_output
with lasting_output():
    print("0.9", file=sys.{stream})
    sys.exit({code})
"""
"""Less than is written at once."""


def speak(encoding: str) -> str:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SPEAK], env=environment, capture_output=True, check=True, timeout=60)
    return done.stdout.decode(encoding.partition(":")[0])


def test_what_a_terminal_cannot_show_is_written_otherwise() -> None:
    shown = speak("ascii")
    assert "0.9 +- 0.1 -> caf\\xe9" in " ".join(shown.split())
    assert "\\u4e2d <= \\udcff" in shown
    assert shown.endswith("+- ...\n")


@pytest.mark.parametrize("encoding", ["gbk", "euc_jp", "utf-8"])
def test_what_it_can_show_is_shown(encoding: str) -> None:
    assert speak(encoding).endswith("\xb1 \u2026\n")


def test_the_charmap_of_another_country_is_no_trouble() -> None:
    assert "\u4e2d" not in speak("koi8_r")


def test_nobody_who_reads_along_is_no_reason_to_end() -> None:
    reader, stdout = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", SPEAK], stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(stdout)
    assert (done.returncode, done.stderr) == (0, b"ended\n")


FULL = (
    b"Standard output cannot be written any more: No space left on device. The command goes on without it, and does "
    b"not end with code 0.\n"
)


@pytest.mark.parametrize(("program", "said"), [(SPEAK, b"ended\n"), (LITTLE.format(stream="stdout", code=0), b"")])
def test_a_full_disk_is_said_and_the_command_goes_on(program: str, said: bytes) -> None:
    """Also where the text is so little that it is written when the command ends."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=-1, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, FULL + said)


def test_another_code_than_0_stays(tmp_path: Path) -> None:
    """And where messages cannot be written, the code is all there is."""
    with open("/dev/full", "wb") as full:
        for stream, code, kept in (("stdout", 3, 3), ("stderr", 0, 1)):
            program = LITTLE.format(stream=stream, code=code)
            done = subprocess.run([sys.executable, "-c", program], **{stream: full}, timeout=60, check=False)
            assert done.returncode == kept, stream


def run(words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command with words and redirections for the shell."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = f"{shlex.quote(sys.executable)} -m sweeper {words}"
    return subprocess.run(
        ["sh", "-c", command], env=environment, cwd=cwd, capture_output=True, encoding="utf-8", timeout=300, check=False
    )


def test_a_command_with_output_that_cannot_be_written(tmp_path: Path) -> None:
    sweep_at(tmp_path / "made")
    done = run("status made >/dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1, FULL.decode())
    done = run("status made >&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), "closed by who called it"
    done = run("status gone >&-", tmp_path)
    assert (done.returncode, done.stderr) == (2, "gone holds no sweep: there is no such folder.\n")


def test_a_terminal_that_was_closed_is_no_reason_either(tmp_path: Path) -> None:
    master, slave = os.openpty()
    wait = "import os, time\nwhile not os.path.exists('closed'): time.sleep(0.02)\n"
    after = SPEAK.replace('print("ended", file=sys.stderr)', 'open("ended", "w", encoding="utf-8").close()')
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", wait + after], stdout=slave, stderr=slave, cwd=tmp_path, env=environment
    )
    os.close(slave)
    os.close(master)
    (tmp_path / "closed").touch()
    assert process.wait(60) == 0
    assert (tmp_path / "ended").exists()
