# %% [markdown]
# # From a video of your own to a search
#
# A video and its tracks become tracklets, these train a model, the model describes them, and a search finds each
# person again. The video here is drawn, so that the notebook runs by itself: put yours in its place. Each step
# is a command of the terminal, too: `main(["train", ...])` is `a3d train ...`.

# %%
from pathlib import Path

import cv2
import numpy as np

from backbone.embeddings import load_embeddings
from scripts.cli import main

PRESET = "tiny"  # learns nothing, in seconds; "small" or "street" for real people
STEPS = "6"
NUM_PEOPLE, NUM_FRAMES = 8, 40

# %% [markdown]
# A video in which people in clothes of their own colours walk side by side, and their tracks in MOT format:
# frame, id, left, top, width, height, confidence, from 1.

# %%
generator = np.random.default_rng(0)
clothes = generator.integers(30, 226, (NUM_PEOPLE, 2, 3)).tolist()
size = (60 * NUM_PEOPLE, 120)
video = cv2.VideoWriter("street.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, size)
tracks = []
for frame in range(NUM_FRAMES):
    picture = np.full((size[1], size[0], 3), 128, np.uint8)
    for person, (top, legs) in enumerate(clothes):
        left = 60 * person + 10 + round(5 * np.sin(frame / 3 + person))
        cv2.rectangle(picture, (left + 8, 30), (left + 24, 65), top, -1)
        cv2.rectangle(picture, (left + 8, 65), (left + 24, 105), legs, -1)
        tracks.append(f"{frame + 1},{person},{left},20,32,90,1")
    video.write(picture)
video.release()
Path("gt.txt").write_text("\n".join(tracks), encoding="utf-8")

# %% [markdown]
# Tracklets: long tracks are cut into chunks that take turns as two views, since there is one camera.

# %%
cut = ["--chunk-frames", "12", "--gap-frames", "4"]
assert main(["data", "cut", "--video", "street.avi", "--tracks", "gt.txt", "--out", "street", *cut]) == 0

# %%
assert main(["train", "--preset", PRESET, "--steps", STEPS, "--data", "folder:street", "--out", "runs/mine"]) == 0

# %%
assert main(["embed", "--checkpoint", "runs/mine", "--data", "folder:street", "--out", "street.npz"]) == 0
described = load_embeddings(Path("street.npz"))
print(described.descriptors.shape, described.name[:3])

# %% [markdown]
# `found.html` shows what was found, with the bins that were looked at.

# %%
search = ["--query", "street.npz", "--gallery", "street.npz", "--top", "3"]
assert main(["search", *search, "--page", "found.html", "--json", "found.json"]) == 0
