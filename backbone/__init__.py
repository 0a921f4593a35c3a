"""Pixels to features: data, the two-stream network, what a glimpse does, losses and scores."""
