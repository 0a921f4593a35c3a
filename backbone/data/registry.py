"""The data sets by name."""

from backbone.data.data_set import DataSet
from backbone.data.sets.folder import FOLDER
from backbone.data.sets.ilids import ILIDS
from backbone.data.sets.mars import MARS
from backbone.data.sets.prid import PRID
from backbone.data.sets.synthetic import SYNTHETIC

DATASETS: dict[str, DataSet] = {one.name: one for one in (SYNTHETIC, FOLDER, PRID, ILIDS, MARS)}


def get_data_set(name: str) -> DataSet:
    """Return the description of a data set.

    Args:
        name: a name of `DATASETS`.

    Raises:
        ValueError: unknown name.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data {name!r}; known: {', '.join(DATASETS)} (write NAME or NAME:DIRECTORY)")
    return DATASETS[name]
