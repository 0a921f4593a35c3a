"""Single episodes: recorded, inspected, and replayed with other glimpses.

```python
episode = record_episode(env, agent)
episode.figure()
episode.reward_map(2).best
episode.replay({2: (2, 5, 1)}).to_html("episode.html")
```
"""

from agents.episodes.episode import Episode, RewardMap
from agents.episodes.gallery import Gallery
from agents.episodes.record import Names, record_episode

__all__ = ["Episode", "Gallery", "Names", "RewardMap", "record_episode"]
