"""The representation: pixels and flow to a feature map, and the networks that glimpse at it."""

from typing import Self

import torch
from torch import Tensor, nn

from backbone.glimpse import GlimpseNetwork
from backbone.pooling import build_pooling
from backbone.two_stream import BackboneConfig, TwoStream, build_backbone

# ImageNet's mean and standard deviation, of RGB in [0, 1].
RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)


class Representation(nn.Module):
    """Everything that is trained by the supervised losses: F_img, F_flow, F_g, the pooling, F_o, F_h and F_c.

    Attributes:
        backbone: the two-stream network.
        glimpse: F_o, F_h and F_c.
        pool: the feature map g (B, C_g, L_g, H_g, W_g) to the global feature f_g (B, C_g).
        precision: of the backbone: float32, bfloat16 (autocast), or auto (bfloat16 where the hardware has it).
        is_frozen: whether the backbone stays as it is loaded: no gradient is computed through it, and its batch
            norms and dropouts are those of evaluation, in training, too.

    Raises:
        ValueError: unknown backbone or pooling, a size below 1, or weights that can't be had.
    """

    def __init__(self, config: BackboneConfig, num_glimpses: int, num_identities: int):
        super().__init__()
        self.backbone: TwoStream = build_backbone(config)
        self.glimpse = GlimpseNetwork(self.backbone.num_channels, num_glimpses, num_identities)
        # The last to be made, so that the others start alike whatever it is.
        self.pool = build_pooling(config.pooling, self.backbone.num_channels)
        self.precision = config.precision
        self.is_frozen = config.frozen
        if self.is_frozen:
            self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; a frozen backbone stays in evaluation."""
        super().train(mode)
        if self.is_frozen:
            self.backbone.eval()
        return self

    @property
    def device(self) -> torch.device:
        """The device that the parameters are on."""
        return next(self.parameters()).device

    def feature_map(self, clip: Tensor, flow: Tensor | None) -> Tensor:
        """Return g of uint8 clips.

        Args:
            clip: uint8 (B, L, H, W, 3), RGB, on any device.
            flow: float (B, L, H, W, 2), pixels per frame, or None without a flow stream.

        Returns:
            float32 (B, C_g, L_g, H_g, W_g) on the network's device; a frozen backbone's has no gradient history.
        """
        images = normalise(clip.to(self.device, non_blocking=True))
        if flow is not None:
            flow = flow.to(self.device, non_blocking=True).float().permute(0, 4, 1, 2, 3)
        use_bfloat16 = self.precision == "bfloat16" or (self.precision == "auto" and has_bfloat16(self.device))
        with_graph = torch.is_grad_enabled() and not self.is_frozen
        with (
            torch.set_grad_enabled(with_graph),
            torch.autocast(self.device.type, torch.bfloat16, enabled=use_bfloat16),
        ):
            maps = self.backbone(images, flow)
        return maps.float()


def normalise(clip: Tensor) -> Tensor:
    """uint8 (B, L, H, W, 3) -> float32 (B, 3, L, H, W) with ImageNet's mean and deviation; memory is kept.

    Raises:
        ValueError: the clip is not uint8 of that shape.
    """
    if clip.dtype != torch.uint8 or clip.ndim != 5 or clip.shape[-1] != 3:
        raise ValueError(f"a clip must be uint8 (B, L, H, W, 3), got {clip.dtype} {tuple(clip.shape)}")
    mean = torch.tensor(RGB_MEAN, device=clip.device) * 255
    std = torch.tensor(RGB_STD, device=clip.device) * 255
    return ((clip.float() - mean) / std).permute(0, 4, 1, 2, 3)


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device computes in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # The public API has no question for this; older releases lack these two, and then it is float32.
        return any(
            getattr(torch.cpu, name, lambda: False)()
            for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        )
    return False
