"""The trained model, agent included, as one PyTorch module from frames to descriptor, for export."""

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn
from torch.distributions import Distribution

from a3d_env.bins import BinGrid
from agents.control_algorithm import ControlAlgorithm
from backbone.glimpse import describe
from backbone.representation import Representation


class DeterministicModel(nn.Module):
    """Backbone, glimpses and policy at test time: the computation of `AttentionProcess` and `follow`, in a module.

    Args:
        representation: backbone, pooling, F_o, F_h and F_c.
        agent: the agent, whose action without exploring must be a function of its observation.
        grid: the grid of bins.

    Raises:
        ValueError: the agent draws random numbers, or needs more than an observation.
    """

    locations: Tensor
    cover: Tensor

    def __init__(self, representation: Representation, agent: BaseAlgorithm, grid: BinGrid):
        super().__init__()
        self.representation = representation.eval()
        self.grid = grid
        self.policy = None if _is_centre(agent) else agent.policy.eval()
        self.register_buffer("locations", grid.locations.to(representation.device))
        if grid.shows_looked:
            self.register_buffer("cover", grid.overview_cover.to(representation.device))

    def forward(self, clip: Tensor, flow: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Describe clips.

        Args:
            clip: uint8 (B, L, H, W, 3), RGB.
            flow: float32 (B, L, H, W, 2), pixels per frame, whose last map repeats the one before it; None without
                a flow stream.

        Returns:
            The features that are compared times the clip's weight (`Representation.compare`), float32 (B, K). A
            tracklet's descriptor is their mean over its clips, or, if the comparison is by cosine, their sum over
            its clips, each times its number of different frames, scaled to length 1. The bins that were looked at,
            int64 (B, T). F_c's logits, float32 (B, num_identities).
        """
        network = self.representation
        maps = network.maps(clip, None if flow is None else flow.permute(0, 4, 1, 2, 3))
        table = self.grid.pool(maps)  # (B, num_bins, C_g)
        # `shape[0]`, here and in all functions called: `len` would fix the batch size in an exported model
        rows = torch.arange(clip.shape[0], device=clip.device)
        hidden, states = network.glimpse.first_hidden(clip.shape[0]), []
        chosen: list[Tensor] = []
        bins = torch.full_like(rows, self.grid.centre)
        for number in range(network.glimpse.num_glimpses):
            if number and self.policy is not None:
                bins = self.grid.chosen(self._act(table, chosen, hidden))
            hidden = network.glimpse.glimpse(table[rows, bins], self.locations[bins], hidden)
            states.append(hidden)
            chosen.append(bins)
        seen = torch.stack(states, dim=1) if states else hidden[:, None][:, :0]  # (B, T, 256)
        read = describe(network.global_feature(maps), seen)
        compared, weights = network.compare(read)
        looked_at = torch.stack(chosen, dim=1) if chosen else rows[:, None][:, :0]
        return weights[:, None] * compared, looked_at, network.glimpse.identify(read)

    def _act(self, table: Tensor, chosen: list[Tensor], hidden: Tensor) -> Tensor:
        bins = chosen[-1]
        rows = torch.arange(bins.shape[0], device=bins.device)
        observation = {"bin": table[rows, bins], "hidden": hidden, "location": self.locations[bins]}
        if len(self.grid.overview):
            observation["overview"] = table[:, self.grid.overview.to(bins.device)].flatten(1)
            if self.grid.shows_looked:
                observation["looked"] = self.cover[torch.stack(chosen, dim=1)].amax(dim=1)
        assert self.policy is not None
        return self.policy._predict(observation, deterministic=True)


@torch.no_grad()
def export_program(module: DeterministicModel, inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """Return the module as a program of tensor operations, for batches of any size.

    Args:
        module: the model, on the CPU.
        inputs: example inputs of 2 clips or more: clip and, with a flow stream, flow.
    """
    batch = torch.export.Dim("batch")
    checks = Distribution._validate_args
    Distribution.set_default_validate_args(False)  # an exported program can't branch on values
    try:
        sizes = tuple({0: batch} for _ in inputs)
        return torch.export.export(module, inputs, dynamic_shapes=sizes, strict=False)
    finally:
        Distribution.set_default_validate_args(checks)


def _is_centre(agent: BaseAlgorithm) -> bool:
    """Tell whether an agent always looks at the centre, or at no bin; refuse other controls."""
    if not isinstance(agent, ControlAlgorithm):
        return False
    name = agent.policy_kwargs.get("control", "random")
    if name != "centre":
        raise ValueError(f"the control {name} decides by more than its observation: it can't be exported")
    return True
