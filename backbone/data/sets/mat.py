"""Tables in MATLAB files, checked."""

from pathlib import Path

import numpy as np

LARGEST = 2**31  # far beyond any line of a list


def read_table(path: Path, variable: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return a table of whole numbers, int64, of the shape that was published; None stands for any length.

    Raises:
        ValueError: the file is missing or damaged, or its table is another one.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    import scipy.io  # it takes a while to import

    try:
        content = scipy.io.loadmat(path, variable_names=[variable])
    except NotImplementedError:  # of MATLAB 7.3 and later, whose files are HDF5
        content = _read_hdf5(path, variable)
    except Exception as error:  # scipy raises many types for damaged files
        raise ValueError(f"{path} is no MATLAB file that can be read: is it truncated? ({error})") from error
    if variable not in content:
        raise ValueError(f"{path} has no variable {variable}")
    table = content[variable]
    kind = f"{getattr(table, 'dtype', type(table).__name__)} {getattr(table, 'shape', '')}"
    is_numbers = isinstance(table, np.ndarray) and table.dtype.kind in "iuf" and table.ndim == len(shape)
    if not is_numbers or any(want not in (None, got) for want, got in zip(shape, table.shape, strict=True)):
        expected = str(shape).replace("None", "any")
        raise ValueError(f"{variable} in {path} is {kind}, expected whole numbers {expected}")
    if not np.isfinite(table).all() or (np.abs(table) > LARGEST).any() or (table != np.floor(table)).any():
        raise ValueError(f"{variable} in {path} holds what is no whole number")
    return table.astype(np.int64)  # unsigned as stored: a difference would wrap around


def _read_hdf5(path: Path, variable: str) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError as error:
        raise ValueError(f"{path} is a file of MATLAB 7.3, which h5py reads: pip install 'a3d[hdf5]'") from error
    try:
        with h5py.File(path, mode="r") as file:
            return {variable: np.asarray(file[variable]).T} if variable in file else {}
    except Exception as error:  # of many types for damaged files
        raise ValueError(f"{path} is no MATLAB file that can be read: is it truncated? ({error})") from error
