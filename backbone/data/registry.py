"""The data sets by name."""

from dataclasses import fields

from backbone.data.data_set import DataConfig, DataSet
from backbone.data.sets.agvpreid import AGVPREID
from backbone.data.sets.ccvid import CCVID
from backbone.data.sets.folder import FOLDER
from backbone.data.sets.g2a import G2A
from backbone.data.sets.ilids import ILIDS
from backbone.data.sets.lsvid import LSVID
from backbone.data.sets.mars import MARS
from backbone.data.sets.mevid import MEVID
from backbone.data.sets.planted import PLANTED
from backbone.data.sets.prid import PRID
from backbone.data.sets.synthetic import SYNTHETIC
from backbone.data.sets.table import TABLE
from backbone.own import is_own, load_own

_DRAWN_AND_OWN = (SYNTHETIC, FOLDER, TABLE, PLANTED)
_PUBLISHED = (PRID, ILIDS, MARS, LSVID, G2A, AGVPREID, MEVID, CCVID)
DATASETS: dict[str, DataSet] = {one.name: one for one in (*_DRAWN_AND_OWN, *_PUBLISHED)}
EXAMPLES = ", ".join(one.example for one in DATASETS.values())
# A data set of the user's own does not declare the settings that change it.
OWN_OPTIONS = tuple(one.name for one in fields(DataConfig) if one.name != "synthetic")


def get_data_set(name: str) -> DataSet:
    """Return the description of a data set.

    Args:
        name: a name of `DATASETS`, or `module:function` of your own: the function takes what `DataSet.read` takes,
            and returns `ReidData`.

    Raises:
        ValueError: unknown name, or a function that can't be imported.
    """
    if name in DATASETS:
        return DATASETS[name]
    known = f"known: {EXAMPLES}, or module:function[:DIRECTORY] of your own"
    if not is_own(name):
        raise ValueError(f"unknown data {name!r}; {known}")
    try:
        read = load_own(name, "data set")
    except ValueError as error:
        raise ValueError(f"{error}; {known}") from error
    if not callable(read):
        raise ValueError(f"{name} is no function that reads a data set, but {read!r}")
    return DataSet(name, read, example=name, needs_directory=False, options=OWN_OPTIONS)
