from __future__ import annotations

import subprocess
import sys

import pytest

SIGNAL_BEHIND_TWO_NETWORKS = """
import gc, os, signal, sys
from pathlib import Path
from fieldmark.exporting.runtimes import run_with_openvino

signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
path = Path(sys.argv[1])
networks = [run_with_openvino(path, threads=1, exact=exact) for exact in (True, False)]
while networks:
    del networks[0]  # in the order they were made
    gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_behind_two_networks_of_openvino_is_handled(cnn) -> None:
    pytest.importorskip("openvino")
    words = [sys.executable, "-c", SIGNAL_BEHIND_TWO_NETWORKS, str(cnn.made.file)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
