"""G2A-VReID: 2,788 people, each filmed from the ground and from the air.

The counts are the totals that its authors state (README of the repository FHR-L/G2A-VReID; Zhang et al.,
"Cross-Platform Video Person ReID: A New Benchmark Dataset and Adaptation Approach", ECCV 2024); of its parts none
are known here. The layout is MARS's, as code of others reads it, in which camera 1 is on the ground and camera 2
in the air, the queries are those that the data lists, and the gallery is the rest of the test part. Not tried on
the original files, nor on the larger second version, whose counts are others.
"""

from backbone.data.sets.listings import Listing, numbers, tracks
from backbone.data.sets.published import Published, asked, swapped
from backbone.protocol import between

GROUND, AERIAL = (1,), (2,)
TO_AERIAL = between("ground_to_aerial", GROUND, AERIAL, "the same person seen from the air")
TO_GROUND = between("aerial_to_ground", AERIAL, GROUND, "the same person seen from the ground")


def _listed(half: str) -> Listing:
    return tracks(
        half,
        f"info/tracks_{half}_info.mat",
        names=f"info/{half}_name.txt",
        first=1,
        columns=("person", "camera"),
        variable=f"track_{half}_info",
    )


_TEST = asked(_listed("test"), numbers("info/query_IDX.mat", variable="query_IDX"), first=1)
DESCRIPTION = Published(
    name="g2a",
    layout="<dir>/bbox_{train,test}/<person>/<frame>.jpg and <dir>/info/{*.mat, *_name.txt}",
    source="G2A-VReID, from its authors at Northwestern Polytechnical University",
    anchor="info",
    inside=("", "G2A-VReID"),
    train=_listed("train"),
    tests={TO_AERIAL: _TEST, TO_GROUND: swapped(_TEST)},
    counts={"all people": 2788, "all tracklets": 5576, "all frames": 185_907, "all cameras": 2},
    frame_folders=("bbox_train", "bbox_test"),
    frame_name=r"(?P<folder>\d{4}|00-1).+\.jpg",
)
G2A = DESCRIPTION.data_set()
