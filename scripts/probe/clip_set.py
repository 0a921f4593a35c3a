"""A set of clips that several rows of `a3d probe` look at, while the backbone runs over them once."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from a3d_env.process import AttentionProcess, Episodes
from agents.probes import EpisodeRule
from agents.runs.describe import TrackletMeans, clip_batches, looks
from agents.runs.model import Run
from agents.runs.scoring import LOOKS
from backbone.data.tracklet import Tracklet
from backbone.representation import Representation

# A judge in F_c's place: takes a process, the numbers of its N clips, and an episode on each; returns the
# log-probability of each clip's person, float32 (N,) on the CPU, NaN where it can't judge.
Judge = Callable[[AttentionProcess, Tensor, Episodes], Tensor]


class ClipSet:
    """Clips of some tracklets, looked at by several rows while the backbone runs over them once.

    Args:
        run: networks.
        tracklets: tracklets of the clips, one or more.
        max_clips: most clips of each tracklet; None for all.
        clips_per_batch: number of clips in memory at once.
        of_training: whether the clips show people that F_c knows.

    Attributes:
        tracklet: number of each clip's tracklet, int64 (num_clips,).
        person: person of each clip, int64 (num_clips,).
    """

    def __init__(
        self,
        run: Run,
        tracklets: list[Tracklet],
        *,
        max_clips: int | None = None,
        clips_per_batch: int = 32,
        of_training: bool = False,
    ):
        self.run = run
        self.tracklets = tracklets
        self.batches = clip_batches(run, tracklets, clips_per_batch=clips_per_batch, clips_per_tracklet=max_clips)
        self.labels = run.labels if of_training else None
        self.tracklet = np.array([index for index, _ in self.batches.all_clips])
        self.person = np.array([tracklets[index].person for index in self.tracklet])

    @property
    def knows_truth(self) -> bool:
        """Tell whether the place of the thing is known in all of the clips."""
        return all(tracklet.truth_boxes is not None for tracklet in self.tracklets)

    def watch(
        self, rows: Mapping[str, EpisodeRule], what: str, judge: Judge | None = None, *, describe: bool = True
    ) -> dict[str, "ProbeResults"]:
        """Run the backbone over all clips, and each row over its features.

        Args:
            rows: functions that choose the bins, by name.
            what: text beside the progress bar.
            judge: judge of people whom F_c does not know.
            describe: whether the tracklets' descriptors are needed.

        Returns:
            Results of each row.
        """
        seen = {name: ProbeResults(len(self.tracklets), self.run.representation) for name in rows}
        first = 0
        for batch, process, finished in looks(self.run, self.batches, rows, what, self.labels):
            numbers = torch.arange(first, first := first + len(process.bank))
            for name, episodes in finished.items():
                if describe:
                    seen[name].descriptors.add(batch, process.descriptor(episodes))
                if self.labels is None:
                    seen[name].add_strangers(process, episodes)
                else:
                    seen[name].add_known(process, episodes)
                if judge is not None:
                    seen[name].add("gallery_log_prob", judge(process, numbers, episodes).numpy())
        return seen


class ProbeResults:
    """Results of one row's episodes.

    Args:
        num_tracklets: number of the clips' tracklets.
        representation: representation, which says what is compared.

    Attributes:
        descriptors: descriptors of the tracklets.
    """

    def __init__(self, num_tracklets: int, representation: Representation):
        self._values: dict[str, list[np.ndarray]] = {}
        self.descriptors = TrackletMeans(num_tracklets, representation)

    def add(self, column: str, values: np.ndarray) -> None:
        """Add a batch's values, one for each clip."""
        self._values.setdefault(column, []).append(values)

    def columns(self) -> dict[str, np.ndarray]:
        """Return the values by column, one for each clip, NaN where it was not measured."""
        return {column: np.concatenate(parts) for column, parts in self._values.items()}

    def add_known(self, process: AttentionProcess, episodes: Episodes) -> None:
        """Let F_c judge episodes: the run's reward, and the log-probability of the true identity."""
        self.add("reward", process.judge(episodes).reward.cpu().numpy())
        log_prob = AttentionProcess(process.bank, process.glimpse, "log_prob")
        self.add("log_prob", log_prob.judge(episodes).reward.cpu().numpy())

    def add_strangers(self, process: AttentionProcess, episodes: Episodes) -> None:
        """Measure where episodes looked, in percent."""
        for column, share in LOOKS.items():
            self.add(column, 100 * share(process.bank, episodes))
