"""Processes that a command starts for its runs: none outlives the command."""

import os
import threading
import time

PARENT = "A3D_PARENT"
POLL_SECONDS = 0.3


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
