"""AG-VPReID: people seen by drones, by fixed cameras and by worn ones, searched for across these.

Layout, cameras and protocols are those that its authors state (README and baseline of the repository
agvpreid25/AG-VPReID; Nguyen et al., "AG-VPReID: A Challenging Large-Scale Benchmark for Aerial-Ground Video-based
Person Re-Identification", CVPR 2025). It is out in two sizes, of 6,632 people with 32,321 tracklets and of 3,027
people with about 13,500, and how these numbers spread over the parts could not be found: no count is checked but
that nobody is in both halves. Names of clothes are in neither folders nor files. Not tried on the original files.
"""

from backbone.data.sets.listings import folders
from backbone.data.sets.published import Published, Test, apart
from backbone.protocol import Protocol, between

GROUND, AERIAL = (0, 1, 2, 3), (4, 5)  # fixed and worn; drones
TO_GROUND = between("aerial_to_ground", AERIAL, GROUND, "the same person seen from the ground")
TO_AERIAL = between("ground_to_aerial", GROUND, AERIAL, "the same person seen from the air")
FRAME = r".*C(?P<camera>\d)E.*F(?P<frame>\d+)\.jpg"


def _case(number: int, protocol: Protocol) -> Test:
    folder = f"case{number}_{protocol.name}"
    return apart(folders(f"{folder}/query", FRAME), folders(f"{folder}/gallery", FRAME))


DESCRIPTION = Published(
    name="agvpreid",
    layout="<dir>/{train,case*/query,case*/gallery}/<person>/<tracklet>/<frame>.jpg, case1_aerial_to_ground and "
    "case2_ground_to_aerial",
    source="AG-VPReID, from its authors at Queensland University of Technology",
    anchor="train",
    inside=("", "AG-VPReID"),
    train=folders("train", FRAME),
    tests={TO_GROUND: _case(1, TO_GROUND), TO_AERIAL: _case(2, TO_AERIAL)},
    counts={},
    frame_folders=("train", "case1_aerial_to_ground", "case2_ground_to_aerial"),
    frame_name=FRAME,
)
AGVPREID = DESCRIPTION.data_set()
