"""MEVID: 158 people in 598 outfits by 33 cameras indoors and outdoors, over 73 days.

Layout, format and counts are those that its authors state (README of the repository Kitware/MEVID; Davila et al.,
"MEVID: Multi-view Extended Videos with Identities for Video Person Re-Identification", WACV 2023), the number of
queries that of others who scored it. Matches in the same or in other clothes are those of the authors' baseline
CAL. As in its loader, the gallery is without the queries, and rows of the tables without a frame are passed over;
whether the stated numbers have these rows is not known. Not tried on the original files.
"""

from backbone.data.sets.listings import Listing, numbers, tracks
from backbone.data.sets.published import Published, asked
from backbone.protocol import CLOTH_CHANGING, OTHER_CAMERA, SAME_CLOTHES


def _listed(half: str) -> Listing:
    table, names = f"track_{half}_info.txt", f"{half}_name.txt"
    return tracks(half, table, names=names, first=0, columns=("person", "clothes", "camera"))


DESCRIPTION = Published(
    name="mevid",
    layout="<dir>/bbox_{train,test}/<person>/<frame>.jpg and <dir>/{track_*_info,*_name,query_IDX}.txt",
    source="MEVID, from its authors at Kitware",
    anchor="bbox_train",
    inside=("", "mevid"),
    train=_listed("train"),
    tests={
        protocol: asked(_listed("test"), numbers("query_IDX.txt"), first=0)
        for protocol in (OTHER_CAMERA, SAME_CLOTHES, CLOTH_CHANGING)
    },
    counts={
        "train people": 104,
        "train tracklets": 6338,
        "train clothes": 485,
        "test people": 54,
        "test tracklets": 1754,
        "test clothes": 113,
        "query tracklets": 316,
        "all cameras": 33,
    },
    frame_folders=("bbox_train", "bbox_test"),
    frame_name=r"(?P<folder>\d{4})O\d+C\d+T\d+F\d+\.jpg",
)
MEVID = DESCRIPTION.data_set()
