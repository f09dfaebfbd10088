"""A training run that is killed by SIGKILL behind a step, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

KILLED = """
import importlib, os, signal, sys
from pathlib import Path
import transformers
from training import run

class Killer(transformers.TrainerCallback):
    def on_step_end(self, args, state, control, **others):
        if state.global_step == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

made = run._trainer
def with_killer(*given):
    trainer = made(*given)
    trainer.add_callback(Killer())
    return trainer
run._trainer = with_killer
importlib.import_module(sys.argv[2]).resumable(*map(Path, sys.argv[3:]))
"""


def killed_behind(step: int, module: str, folder: Path, output: Path) -> None:
    """Have a test's `resumable(folder, output)` train, and see that it is killed.

    Args:
        step: of the optimiser.
        module: the test's, in this folder.
        folder, output: what it is given.
    """
    paths = [*sys.path, str(Path(__file__).parent)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(step), module, str(folder), str(output)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
