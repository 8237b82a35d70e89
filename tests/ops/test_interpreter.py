"""The Triton kernels' tests, in a process of their own: without a GPU they run under Triton's interpreter, which has
to be chosen before the kernels are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FILES = ("interpreted_framewise_attention.py", "interpreted_qk_norm_rope.py")


def test_triton_kernels_under_the_interpreter() -> None:
    pytest.importorskip("triton", minversion="3.6")  # before, importing a tuned kernel asks for a GPU
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(here), str(here.parent.parent)))}
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    paths = [str(here / name) for name in FILES]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
