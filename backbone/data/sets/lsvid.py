"""LS-VID: 842 people to train on and 2,730 to search for, by 15 cameras indoors and outdoors.

People, frames and cameras are those of the paper (Li et al., "Global-Local Temporal Representations for Video
Person Re-Identification", ICCV 2019), tracklets by part as loaders in public re-identification code print them.
The layout is theirs, too: a line of a list says how the paths of a tracklet's frames begin, and a frame's name has
a frame number and the camera as its second and third part. As there, the gallery is without the queries, and the
200 people of the validation part are not used. Not tried on the original files.
"""

from backbone.data.sets.listings import Listing, lines, numbers
from backbone.data.sets.published import Published, asked
from backbone.protocol import OTHER_CAMERA

FRAME = r"[^_]+_(?P<frame>\d+)_(?P<camera>\d+)_[^_]+\.(?:jpg|png)"


def _listed(half: str) -> Listing:
    return lines(f"info/list_sequence/list_seq_{half}.txt", r"(?P<path>\S+)\s+(?P<person>\d+)", FRAME)


DESCRIPTION = Published(
    name="lsvid",
    layout="<dir>/tracklet_{train,test}/<person>/<frame>.jpg and <dir>/info/{list_sequence/list_seq_*.txt, "
    "data/info_test.mat}",
    source="LS-VID, from its authors at Peking University",
    anchor="info",
    inside=("", "LS-VID", "LSVID"),
    train=_listed("train"),
    tests={OTHER_CAMERA: asked(_listed("test"), numbers("info/data/info_test.mat", variable="query"), first=1)},
    counts={
        "train people": 842,
        "train tracklets": 2831,
        "train frames": 550_419,
        "query people": 2730,
        "query tracklets": 3504,
        "gallery people": 2730,
        "gallery tracklets": 7829,
        "test frames": 2_277_075,
        "all cameras": 15,
    },
    frame_folders=("tracklet_train", "tracklet_test"),
    frame_name=FRAME,
)
LSVID = DESCRIPTION.data_set()
