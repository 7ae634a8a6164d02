"""Code in a process of its own."""

import subprocess
import sys


def run(code):
    """What a new process prints that runs some code."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
