"""The program as a process of its own: what it prints is whole, and its exit code is right."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

PROGRAM = [sys.executable, "-m", "fieldmark"]


def test_all_that_is_printed_arrives() -> None:
    done = subprocess.run([*PROGRAM, "recipes", "--json"], capture_output=True, check=False)
    assert done.returncode == 0 and done.stderr == b""
    assert len(json.loads(done.stdout)["recipes"]) > 50


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["recipes", "quik"], 2)])
def test_the_exit_code_is_that_of_the_command(words: list[str], code: int) -> None:
    done = subprocess.run([*PROGRAM, *words], capture_output=True, check=False)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["models"], ["models", "--json"], ["--help"]])
@pytest.mark.parametrize("num_lines", [0, 1])
def test_a_reader_that_leaves_early_is_not_told_of_a_fault(
    words: list[str], num_lines: int
) -> None:
    with subprocess.Popen(
        [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for _ in range(num_lines):
            process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 0 and told == b""


def test_what_was_to_be_done_at_the_end_is_done() -> None:
    script = (
        "import atexit, sys; from fieldmark.cli.program import run; "
        "atexit.register(print, 'done'); sys.argv = ['fieldmark', '--help']; run()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.stdout.endswith(b"done\n")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a matter of glibc's malloc")
@pytest.mark.parametrize(("setting", "is_kept"), [({}, True), ({"MALLOC_ARENA_MAX": "2"}, False)])
def test_freed_memory_is_used_again_unless_the_user_says_how(
    setting: dict[str, str], is_kept: bool
) -> None:
    script = (
        "from pathlib import Path; from fieldmark.cli import program; "
        "program.keep_freed_memory(); block = b'x' * 2**26; del block; "
        "print(Path('/proc/self/statm').read_text().split()[1])"
    )
    names = ("MALLOC_", "GLIBC_TUNABLES")
    others = {key: value for key, value in os.environ.items() if not key.startswith(names)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, env=others | setting
    )
    held = int(done.stdout) * os.sysconf("SC_PAGE_SIZE")
    assert (held > 2**26) == is_kept
