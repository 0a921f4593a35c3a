"""The representation: pixels and flow to a feature map, and the networks that glimpse at it."""

from collections.abc import Callable
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor, nn

from backbone.build import build_backbone
from backbone.config import BackboneConfig, DescriptorConfig
from backbone.descriptor import Comparison
from backbone.glimpse import HIDDEN_SIZE, GlimpseNetwork
from backbone.pooling import build_pooling
from backbone.two_stream import RGB_MEAN, RGB_STD, TwoStream


class Representation(nn.Module):
    """All networks that the supervised losses train: F_img, F_flow, F_g, the pooling, the neck, F_o, F_h and F_c.

    Attributes:
        backbone: the two-stream network.
        glimpse: F_o, F_h and F_c.
        pool: pooling of the feature map g (B, C_g, L_g, H_g, W_g) to one vector for each clip (B, C_g).
        neck: layer from that vector to the global feature f_g (B, C_g): the identity, or a batch normalisation.
        comparison: map from F_c's input [f_g, h_1..h_T] to the features that are compared at test.
        mirror: whether feature maps are averaged with those of the mirrored clips in evaluation.
        precision: arithmetic of the backbone: float32, bfloat16 (autocast), or auto (bfloat16 if the hardware
            supports it).
        is_compiled: whether `feature_map` runs the backbone by torch.compile.
        is_frozen: whether the backbone stays as it was loaded: no gradient is computed through it, and its batch
            norms and dropouts work as in evaluation, even while training.

    Raises:
        ValueError: unknown backbone or pooling, a size below 1, or weights that are not available.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        config: BackboneConfig,
        num_glimpses: int,
        num_identities: int,
        descriptor: DescriptorConfig | None = None,
    ):
        super().__init__()
        self.backbone: TwoStream = build_backbone(config)
        self.glimpse = GlimpseNetwork(self.backbone.num_channels, num_glimpses, num_identities)
        if descriptor is not None and descriptor.glimpses == "mean":
            self.glimpse.tie_glimpses()
        # The last to be made, so that the choice of pooling does not change the others' random initial weights.
        self.pool = build_pooling(config.pooling, self.backbone.num_channels)
        descriptor = descriptor or DescriptorConfig()
        num_channels = self.backbone.num_channels
        self.neck = _without_shift(num_channels) if descriptor.neck == "batch_norm" else nn.Identity()
        self.comparison = Comparison(
            descriptor.compared, num_channels, num_glimpses, HIDDEN_SIZE, of_mean=descriptor.glimpses == "mean"
        )
        # ImageNet's, in general: on the device with the rest, and in no file
        self.register_buffer("_mean", torch.tensor(self.backbone.pixel_mean) * 255, persistent=False)
        self.register_buffer("_std", torch.tensor(self.backbone.pixel_std) * 255, persistent=False)
        self.mirror = descriptor.mirror
        self.precision = config.precision
        self.is_compiled = config.compiled
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
            float32 (B, C_g, L_g, H_g, W_g) on the network's device; without gradient history if the backbone is
            frozen.
        """
        clip = clip.to(self.device, non_blocking=True)
        if flow is not None:
            flow = flow.to(self.device, non_blocking=True).float().permute(0, 4, 1, 2, 3)
        use_bfloat16 = self.precision == "bfloat16" or (self.precision == "auto" and has_bfloat16(self.device))
        with_graph = torch.is_grad_enabled() and not self.is_frozen
        with (
            torch.set_grad_enabled(with_graph),
            torch.autocast(self.device.type, torch.bfloat16, enabled=use_bfloat16),
        ):
            maps: Tensor = (_compiled_maps() if self.is_compiled else Representation.maps)(self, clip, flow)
        return maps.float()

    def maps(self, clip: Tensor, flow: Tensor | None) -> Tensor:
        """Return g of uint8 clips (B, L, H, W, 3) and flow (B, 2, L, H, W), in the precision of the backbone.

        In evaluation with `mirror`, g is averaged with that of the mirrored clip, mirrored back.
        """
        images = normalise(clip, self._mean, self._std)
        maps: Tensor = self.backbone(images, flow)
        if self.training or not self.mirror:
            return maps
        if flow is not None:
            flow = flow.flip(-1) * flow.new_tensor([-1.0, 1.0]).view(1, 2, 1, 1, 1)
        return (maps + self.backbone(images.flip(-1), flow).flip(-1)) / 2

    def global_feature(self, feature_map: Tensor) -> Tensor:
        """Return f_g (B, C_g), the global feature that F_c reads, of feature maps (B, C_g, L_g, H_g, W_g)."""
        return self.neck(self.pool(feature_map))

    def compare(self, read_by_classifier: Tensor, comparison: Comparison | None = None) -> tuple[Tensor, Tensor]:
        """Return the features that are compared, (N, K), and each clip's weight, (N,).

        Args:
            read_by_classifier: [f_g, h_1..h_T], (N, D).
            comparison: the comparison to use; by default the model's.
        """
        comparison = comparison or self.comparison
        return comparison(read_by_classifier), comparison.weights(self.glimpse.identify(read_by_classifier))


@lru_cache(maxsize=1)
def _compiled_maps() -> Callable[..., Tensor]:
    """Return `Representation.maps` compiled, of any network: a copy of a network needs no compilation anew."""
    return torch.compile(Representation.maps)


def _without_shift(num_channels: int) -> nn.BatchNorm1d:
    """Return a batch normalisation whose shift stays 0, so that it keeps the origin, on which cosine depends."""
    neck = nn.BatchNorm1d(num_channels)
    neck.bias.requires_grad_(False)
    return neck


def normalise(clip: Tensor, mean: Tensor | None = None, std: Tensor | None = None) -> Tensor:
    """Normalise uint8 (B, L, H, W, 3) to float32 (B, 3, L, H, W); the order in memory stays (B, L, H, W, 3).

    Args:
        clip: RGB frames.
        mean: mean of RGB in [0, 255], (3,), on the clip's device; by default ImageNet's.
        std: standard deviation of RGB in [0, 255], (3,), on the clip's device; by default ImageNet's.

    Raises:
        ValueError: the clip is not uint8 of that shape.
    """
    if clip.dtype != torch.uint8 or clip.ndim != 5 or clip.shape[-1] != 3:
        raise ValueError(f"a clip must be uint8 (B, L, H, W, 3), got {clip.dtype} {tuple(clip.shape)}")
    mean = torch.tensor(RGB_MEAN, device=clip.device) * 255 if mean is None else mean
    std = torch.tensor(RGB_STD, device=clip.device) * 255 if std is None else std
    return ((clip.float() - mean) / std).permute(0, 4, 1, 2, 3)


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device computes in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # torch has no public function for this. Older releases lack the two private ones: float32 is then used.
        return any(
            getattr(torch.cpu, name, lambda: False)()
            for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        )
    return False
