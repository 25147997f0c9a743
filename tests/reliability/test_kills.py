"""A short version of `kills.py`, which kills as often as one likes."""

import subprocess
import sys
from pathlib import Path


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_were_not():
    script = Path(__file__).with_name("kills.py")
    command = [sys.executable, "-W", "ignore", str(script), "2", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "runs finished, all bit-equal" in done.stdout
