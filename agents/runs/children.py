"""Processes that a command starts for its runs: they find the library as it does, and none outlives it."""

import os
import signal
import subprocess
import sys
import threading
import time
from typing import IO

PARENT = "A3D_PARENT"
POLL_SECONDS = 0.3

_lock = threading.Lock()
_running: set[subprocess.Popen] = set()


def run_module(
    module: str, argument: str, *, stdout: IO | int = subprocess.PIPE, stderr: IO | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ARGUMENT` and wait for it; its `main` calls `end_with_parent`.

    Args:
        module: module, found where this process finds it, not in the folder that it works in.
        argument: argument of the module, the only one.
        stdout: file for its output; by default the output is returned.
        stderr: file for its errors; by default they go where those of this process go.
        environment: variables beside those of this process.

    Raises:
        KeyboardInterrupt: the process was interrupted, as by Ctrl-C, or ended by `end_children`.
    """
    with _lock:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, argument],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env=child_environment(**{"PYTHONPATH": search_path(), **environment}),
        )
        _running.add(process)
    try:
        output, _ = process.communicate()
    finally:
        process.terminate()  # where the waiting was interrupted; a process that is over stays what it is
        process.wait()
        was_ended = process not in _running
        _running.discard(process)
    if was_ended or process.returncode in (-signal.SIGINT, 128 + signal.SIGINT):
        raise KeyboardInterrupt
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def end_children() -> None:
    """End the processes that `run_module` waits for in other threads."""
    with _lock:
        ending = list(_running)
        _running.clear()
    for process in ending:
        process.terminate()
    for process in ending:
        process.wait()


def search_path() -> str:
    """Return the folders that modules are imported from here, as PYTHONPATH has them."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


def child_environment(**values: str) -> dict[str, str]:
    """Return the environment of a process that `end_with_parent` is to end with this one, with `values` in it."""
    return {**os.environ, PARENT: str(os.getpid()), **values}


def end_with_parent() -> None:
    """End this process, from now on, as soon as the one that started it is gone, even if that was killed.

    A process that was started without `child_environment`, as by hand, goes on; on Windows every one does, as a
    parent that is gone can't be told there.
    """
    parent = int(os.environ.pop(PARENT, "0"))  # not for processes of this one's

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os._exit(1)  # whatever else is under way: files appear whole or not at all

    if parent and os.name == "posix":
        threading.Thread(target=watch, daemon=True).start()
