"""What reading any file has to look out for: archives that grow beyond the memory, and the lack of it."""

import re
import zipfile
from pathlib import Path

# No array of numbers that somebody measured shrinks to less; what NumPy and torch write is not compressed at all.
MOST_SHRUNK = 100
SMALL = 2**26  # bytes, of which nobody runs out
LACKING = re.compile(
    "can't allocate memory|cannot allocate memory|out of memory|insufficient memory|unable to allocate|bad_alloc",
    re.IGNORECASE,
)


def lacks_memory(error: BaseException) -> bool:
    """Tell whether an error of Python, NumPy, OpenCV or torch is that the memory is used up."""
    return isinstance(error, MemoryError) or bool(LACKING.search(" ".join(str(error).split())))


def pass_on_lack_of_memory(error: Exception) -> None:
    """Raise an error again that says nothing of the file that was being read: the memory is used up."""
    if lacks_memory(error):
        raise error


def check_archive(path: Path) -> None:
    """Refuse an archive whose parts would take far more memory than the file has bytes.

    Raises:
        zipfile.BadZipFile: it is one, or damaged: the checksum of a part is wrong.
    """
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.file_size > MOST_SHRUNK * part.compress_size + SMALL:
                raise zipfile.BadZipFile(
                    f"{part.filename} would grow from {part.compress_size:,} to {part.file_size:,} bytes"
                )
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
