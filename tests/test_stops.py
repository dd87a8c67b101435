"""Workers end with the process that asked for them, even one that was killed and could not end them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

STUDY = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from anyview.stops import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer={initializer}) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def outlives(initializer: str, folder: Path, seconds: float) -> bool:
    """Whether a worker is still there so long after its parent was killed; it is ended then.

    A worker holds the study's output open, and the last who does so closes it.
    """
    path = folder / "study.py"
    path.write_text(STUDY.format(initializer=initializer))
    with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE) as study:
        assert study.stdout is not None
        worker = int(study.stdout.readline())
        study.kill()
        closed, *_ = select.select([study.stdout], [], [], seconds)
    if not closed:
        os.kill(worker, signal.SIGKILL)
    return not closed


def test_a_worker_ends_with_the_process_that_was_killed(tmp_path: Path) -> None:
    assert not outlives("end_with_parent", tmp_path, seconds=60)
    assert outlives("None", tmp_path, seconds=1)  # what it is for
