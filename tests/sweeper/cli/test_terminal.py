"""What reaches a terminal, a pipe or a log that is not as one would wish; each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SPEAK = r"""
import sys
from sweeper.cli.terminal import prepare_output
prepare_output()
from rich.console import Console
from rich.table import Table
table = Table(title="0.9 \xb1 0.1 \u2192 caf\xe9")
table.add_column("\u4e2d \u2264 \udcff")
Console(width=60).print(table)
print("\xb1 \u2026", flush=True)
print("ended", file=sys.stderr)
"""


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


@pytest.mark.parametrize("where", ["a pipe without reader", "a full disk"])
def test_nobody_who_reads_along_is_no_reason_to_end(where: str) -> None:
    if where == "a full disk":
        stdout = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, stdout = os.pipe()
        os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", SPEAK], stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(stdout)
    assert (done.returncode, done.stderr) == (0, b"ended\n")


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
