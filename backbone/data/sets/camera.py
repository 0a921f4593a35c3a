"""Drawn cameras: a place that passes by behind the walkers, colours and noise."""

import cv2
import numpy as np


class Camera:
    """A camera with a place of its own to look at, and colours of its own."""

    def __init__(self, height: int, frame_width: int, generator: np.random.Generator):
        self.frame_width = frame_width
        width = 4 * frame_width  # of the whole place
        scene = np.full((height, width, 4), 0, dtype=np.uint8)
        ground = generator.integers(90, 170, 3)
        scene[..., :3] = ground * np.linspace(1.15, 0.75, height)[:, None, None]
        for _ in range(24):
            x, y = generator.integers(0, width), generator.integers(0, height * 3 // 4)
            w, h = generator.integers(width // 32, width // 6), generator.integers(height // 16, height // 3)
            colour = (generator.integers(60, 190) + generator.integers(-25, 26, 3)).clip(0, 255)
            cv2.rectangle(scene, (int(x), int(y)), (int(x + w), int(y + h)), (*map(int, colour), 0), -1)
        self.scene = np.concatenate([scene, scene], axis=1)  # wraps around
        gain, tint = generator.uniform(0.85, 1.15, 3), generator.uniform(-12, 12, 3)
        levels = np.arange(256)[:, None] / 255
        gamma = generator.uniform(0.85, 1.2)
        self.tone = (255 * levels**gamma * gain + tint).clip(0, 255).astype(np.uint8)[None]
        self.noise = generator.normal(0, 5, (2 * height, 2 * frame_width, 3)).astype(np.int16)

    def background(self, num_frames: int, generator: np.random.Generator) -> np.ndarray:
        """Return fresh canvases (num_frames, height, width, 4); the camera follows, so the place moves."""
        total = self.scene.shape[1] // 2
        start, speed = generator.integers(0, total), generator.uniform(-2.5, 2.5) * self.frame_width / 64
        lefts = (start + np.round(speed * np.arange(num_frames))).astype(int) % total
        return np.stack([self.scene[:, left : left + self.frame_width] for left in lefts])

    def film(self, frames: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Give frames (n, height, width, 3) the camera's colours and noise."""
        n, height, width, _ = frames.shape
        toned = cv2.LUT(np.ascontiguousarray(frames).reshape(1, -1, 3), self.tone).reshape(frames.shape)
        corners = generator.integers(0, (height, width), (n, 2)).tolist()
        noise = np.stack([self.noise[top : top + height, left : left + width] for top, left in corners])
        return (toned + noise).clip(0, 255).astype(np.uint8)
