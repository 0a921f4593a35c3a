"""The two-stream representation network (equation 1, Tables I to III)."""

from collections.abc import Mapping

from torch import Tensor, nn

# ImageNet's mean and standard deviation, of RGB in [0, 1].
RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)


class TwoStream(nn.Module):
    """Equation 1: g = F_g(F_img(X) + F_flow(F)), frame by frame.

    Attributes:
        image_stream: F_img, the first part of the network on 3 channels (Table I).
        flow_stream: F_flow, the same layers on 2 channels (Table II), or None.
        high_level: F_g, the rest of the network (Table III).
        num_channels: C_g, the channels of the feature map.
        stride: pixels of the input to one cell of the feature map.
        published: renaming of a published model's tensors: from a prefix of their names to the prefix in this
            network, such as "layer2" to "high_level.0". Tensors of image_stream are copied to flow_stream, too.
        flow_scale: factor of the flow stream: a trained number, or None for 1.
        pixel_mean: mean of RGB in [0, 1] that is subtracted from the image network's input.
        pixel_std: standard deviation of RGB in [0, 1] that this input is divided by.
        weights_report: report, in lines of text, of the tensors loaded from the user's weights file; empty without
            a file.
    """

    def __init__(
        self,
        image_stream: nn.Module,
        flow_stream: nn.Module | None,
        high_level: nn.Module,
        num_channels: int,
        stride: int,
        published: Mapping[str, str] | None = None,
        pixel_mean: tuple[float, float, float] = RGB_MEAN,
        pixel_std: tuple[float, float, float] = RGB_STD,
    ):
        super().__init__()
        self.image_stream = image_stream
        self.flow_stream = flow_stream
        self.high_level = high_level
        self.num_channels = num_channels
        self.stride = stride
        self.published = dict(published or {})
        self.flow_scale: nn.Parameter | None = None
        self.pixel_mean = pixel_mean
        self.pixel_std = pixel_std
        self.weights_report = ""

    def forward(self, clip: Tensor, flow: Tensor | None = None) -> Tensor:
        """Return the feature map g.

        Args:
            clip: float (B, 3, L, H, W), normalised.
            flow: float (B, 2, L, H, W), pixels per frame; needed if there is a flow stream.

        Returns:
            float (B, C_g, L, H / stride, W / stride).

        Raises:
            ValueError: the inputs' shapes don't fit each other or the network.
        """
        self._check(clip, flow)
        features = self.image_stream(_frames_as_batch(clip))
        if self.flow_stream is not None and flow is not None:
            moving = self.flow_stream(_frames_as_batch(flow))
            features = features + (moving if self.flow_scale is None else self.flow_scale * moving)
        maps = self.high_level(features)  # (B * L, C_g, H_g, W_g)
        return maps.unflatten(0, (clip.shape[0], clip.shape[2])).transpose(1, 2)

    def feature_size(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return (L_g, H_g, W_g) for clips of that many frames and pixels."""
        return num_frames, -(-height // self.stride), -(-width // self.stride)

    def _check(self, clip: Tensor, flow: Tensor | None) -> None:
        if clip.ndim != 5 or clip.shape[1] != 3:
            raise ValueError(f"clip must be (B, 3, L, H, W), got {tuple(clip.shape)}")
        if (flow is None) != (self.flow_stream is None):
            raise ValueError(
                "this network has a flow stream: give it flow (B, 2, L, H, W)"
                if flow is None
                else "this network was built without a flow stream: give it no flow"
            )
        if flow is not None and flow.shape != (clip.shape[0], 2, *clip.shape[2:]):
            raise ValueError(
                f"flow must be (B, 2, L, H, W) like the clip {tuple(clip.shape)}, got {tuple(flow.shape)}"
            )


def _frames_as_batch(clip: Tensor) -> Tensor:
    """(B, C, L, H, W) -> (B * L, C, H, W): a view where the memory is (B, L, H, W, C)."""
    return clip.transpose(1, 2).flatten(0, 1)
