"""Tables in MATLAB files, checked."""

from pathlib import Path

import numpy as np
import scipy.io


def read_table(path: Path, variable: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a table of whole numbers, int64, of the shape that was published.

    Raises:
        ValueError: the file is missing or damaged, or its table is another one.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        content = scipy.io.loadmat(path, variable_names=[variable])
    except Exception as error:  # scipy raises many types for damaged files
        raise ValueError(f"{path} is no MATLAB file that can be read: is it truncated? ({error})") from error
    if variable not in content:
        raise ValueError(f"{path} has no variable {variable}")
    table = content[variable]
    if table.shape != shape or not np.issubdtype(table.dtype, np.number) or (table != np.floor(table)).any():
        raise ValueError(f"{variable} in {path} is {table.dtype} {table.shape}, expected whole numbers {shape}")
    return table.astype(np.int64)  # unsigned as stored: a difference would wrap around
