"""CCVID: 226 people who walk towards a camera in several outfits; matches in the same or in other clothes.

Layout, cameras and protocols are those of its authors' loader and scoring (Simple-CCReID, data/datasets/ccvid.py
and tools/eval_metrics.py); people, tracklets and frames are those of the paper (Gu et al., "Clothes-Changing
Person Re-identification with RGB Modality Only", CVPR 2022), people, tracklets and outfits by part as others have
counted them in the release. Not tried on the original files.

A camera stands for one of 12 walks: the data has no cameras of its own, and walks of the third session are others.
"""

from backbone.data.sets.listings import Listing, Said, lines
from backbone.data.sets.published import Published, apart
from backbone.protocol import CLOTH_CHANGING, OTHER_CAMERA, SAME_CLOTHES

LINE = r"(?P<path>session(?P<session>\d)/\d+_(?P<walk>\d+))\s+(?P<person>\d+)\s+(?P<clothes>\S+)"
FRAME = r"(?P<frame>\d+)\.jpg"


def _walk(said: Said) -> int:
    return int(said["walk"]) + (12 if said["session"] == "3" else 0)


def _listed(part: str) -> Listing:
    return lines(f"{part}.txt", LINE, FRAME, _walk)


DESCRIPTION = Published(
    name="ccvid",
    layout="<dir>/session{1,2,3}/<person>_<walk>/<frame>.jpg and <dir>/{train,query,gallery}.txt",
    source="CCVID, from its authors at the Chinese Academy of Sciences",
    anchor="session1",
    inside=("", "CCVID"),
    train=_listed("train"),
    tests={
        protocol: apart(_listed("query"), _listed("gallery"))
        for protocol in (OTHER_CAMERA, SAME_CLOTHES, CLOTH_CHANGING)
    },
    counts={
        "train people": 75,
        "train tracklets": 948,
        "train clothes": 159,
        "query people": 151,
        "query tracklets": 834,
        "gallery people": 151,
        "gallery tracklets": 1074,
        "test clothes": 321,
        "all frames": 347_833,
    },
    frame_folders=("session1", "session2", "session3"),
    frame_name=FRAME,
)
CCVID = DESCRIPTION.data_set()
