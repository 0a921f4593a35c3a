"""What trains the representation: Adam, the schedule of its learning rates, and the average of its weights."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agents.joint_config import JointConfig
from backbone.representation import Representation

CENTER_RATE = 0.5  # of the centre loss' own steps (Luo et al., 2019)


class JointOptimizer:
    """Adam on the representation, by a `JointConfig`.

    Args:
        representation: what is trained, and, if asked for, averaged.
        config: learning rates and their schedule.
        num_identities: the people in the training, who each have a centre in the centre loss.
        num_batches: of the whole training; the cosine schedule has to know it.

    Attributes:
        centers: the centre loss' centre of each person, float32 (num_identities, C_g); trained where that loss
            counts.

    Raises:
        ValueError: the cosine schedule does not know the number of batches.
    """

    def __init__(
        self,
        representation: Representation,
        config: JointConfig,
        num_identities: int,
        num_batches: int | None = None,
    ):
        if config.schedule == "cosine" and num_batches is None:
            raise ValueError("the cosine schedule has to know how many batches the training has: num_batches")
        self.representation = representation
        self.config = config
        self.centers = torch.zeros(
            num_identities, representation.backbone.num_channels, device=representation.device, requires_grad=True
        )
        self.center_sgd = torch.optim.SGD([self.centers], lr=CENTER_RATE)
        self.adam = torch.optim.Adam(
            self._parameter_groups(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.adam, lambda batch: config.learning_rate_factor(batch, num_batches or 0)
        )
        self.average: AveragedModel | None = None
        if config.average_decay is not None:
            self.average = AveragedModel(
                representation, multi_avg_fn=get_ema_multi_avg_fn(config.average_decay), use_buffers=True
            )

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.adam.zero_grad()
        self.center_sgd.zero_grad()

    def step(self) -> None:
        """Take a step along the gradients, then one of the schedule and one of the average."""
        self.adam.step()
        if self.centers.grad is not None:  # the loss' weight is not for the centres: they would hardly move
            self.centers.grad /= self.config.center_weight
            self.center_sgd.step()
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.representation)

    def take_average(self) -> None:
        """Give the representation the moving average of its weights, if there is one, for the test."""
        if self.average is not None and self.average.n_averaged:
            self.representation.load_state_dict(self.average.module.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to go on, beside the representation."""
        state: dict[str, Any] = {"optimizer": self.adam.state_dict(), "scheduler": self.scheduler.state_dict()}
        if self.average is not None:
            state["average"] = self.average.state_dict()
        if self.config.center_weight:
            state["centers"] = self.centers.detach()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`; other entries are passed over."""
        self.adam.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.config.center_weight:
            with torch.no_grad():
                self.centers.copy_(state["centers"])

    def _parameter_groups(self) -> list[dict[str, Any]]:
        backbone = list(self.representation.backbone.parameters())
        known = set(map(id, backbone))
        others: list[Tensor] = [one for one in self.representation.parameters() if id(one) not in known]
        return [
            {"params": others},
            {"params": backbone, "lr": self.config.learning_rate * self.config.backbone_rate},
        ]
