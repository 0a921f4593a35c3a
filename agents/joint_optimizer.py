"""The representation's optimizer: Adam, the schedule of learning rates, and the average of the weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agents.joint_config import JointConfig
from backbone.distributed import average_gradients, batch_norm_statistics
from backbone.representation import Representation

CENTER_RATE = 0.5  # learning rate of the centres in the centre loss (Luo et al., 2019)


class JointOptimizer:
    """Adam on the representation, by a `JointConfig`.

    Args:
        representation: the networks that are trained and, by `average_decay`, averaged.
        config: learning rates and their schedule.
        num_identities: the number of people in the training, who each have a centre in the centre loss.
        num_batches: number of batches in the whole training, which the cosine schedule needs.
        more: parameters that are trained beside the representation's, and not averaged.

    Attributes:
        centers: each person's centre in the centre loss, float32 (num_identities, C_g); trained if that loss has a
            weight.

    Raises:
        ValueError: `num_batches` is missing, and the schedule is cosine.
    """

    def __init__(
        self,
        representation: Representation,
        config: JointConfig,
        num_identities: int,
        num_batches: int | None = None,
        more: Sequence[Tensor] = (),
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
            self._parameter_groups(more),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=representation.device.type == "cuda" or None,
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
        """Clear the gradients."""
        self.adam.zero_grad()
        self.center_sgd.zero_grad()

    def average_gradients(self) -> None:
        """Give all ranks the means of their gradients, and of their batch normalisations' running statistics."""
        trained = [one for group in self.adam.param_groups for one in group["params"]]
        average_gradients([*trained, self.centers], batch_norm_statistics(self.representation))

    def step(self) -> None:
        """Update the parameters, then the learning rates and the moving average."""
        self.adam.step()
        if self.centers.grad is not None:  # without the loss' weight, with which the centres would hardly move
            self.centers.grad /= self.config.center_weight
            self.center_sgd.step()
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.representation)

    def take_average(self) -> None:
        """Replace the representation's weights by their moving average, if there is one, for the test."""
        if self.average is not None and self.average.n_averaged:
            self.representation.load_state_dict(self.average.module.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint needs to continue the training, besides the representation."""
        state: dict[str, Any] = {"optimizer": self.adam.state_dict(), "scheduler": self.scheduler.state_dict()}
        if self.average is not None:
            state["average"] = self.average.state_dict()
        if self.config.center_weight:
            state["centers"] = self.centers.detach()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned; other entries are ignored."""
        # The file's is its device's; set before the state is loaded, whose numbers of steps follow it to a device.
        fused = self.adam.defaults["fused"]
        groups = [{**group, "fused": fused} for group in state["optimizer"]["param_groups"]]
        self.adam.load_state_dict({**state["optimizer"], "param_groups": groups})
        self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.config.center_weight:
            with torch.no_grad():
                self.centers.copy_(state["centers"])

    def _parameter_groups(self, more: Sequence[Tensor]) -> list[dict[str, Any]]:
        backbone = list(self.representation.backbone.parameters())
        known = set(map(id, backbone))
        others: list[Tensor] = [one for one in self.representation.parameters() if id(one) not in known]
        return [
            {"params": [*others, *more]},
            {"params": backbone, "lr": self.config.learning_rate * self.config.backbone_rate},
        ]
