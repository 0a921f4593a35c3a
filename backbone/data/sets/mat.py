"""Tables in MATLAB files, checked."""

from pathlib import Path

import numpy as np

LARGEST = 2**31  # far beyond any line of a list


def read_table(path: Path, variable: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a table of whole numbers, int64, of the shape that was published.

    Raises:
        ValueError: the file is missing or damaged, or its table is another one.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    import scipy.io  # it takes a while to import

    try:
        content = scipy.io.loadmat(path, variable_names=[variable])
    except Exception as error:  # scipy raises many types for damaged files
        raise ValueError(f"{path} is no MATLAB file that can be read: is it truncated? ({error})") from error
    if variable not in content:
        raise ValueError(f"{path} has no variable {variable}")
    table = content[variable]
    kind = f"{getattr(table, 'dtype', type(table).__name__)} {getattr(table, 'shape', '')}"
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "iuf" or table.shape != shape:
        raise ValueError(f"{variable} in {path} is {kind}, expected whole numbers {shape}")
    if not np.isfinite(table).all() or (np.abs(table) > LARGEST).any() or (table != np.floor(table)).any():
        raise ValueError(f"{variable} in {path} holds what is no whole number")
    return table.astype(np.int64)  # unsigned as stored: a difference would wrap around
