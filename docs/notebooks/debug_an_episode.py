# %% [markdown]
# # Debug an episode
#
# Why did the agent look there, and what would have happened elsewhere? A clip has few bins, so the answers are
# exact: every other bin is tried.

# %%
import agents
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.episodes import Episode, record_episode
from agents.episodes.story import describe_change, describe_episode

TIMESTEPS = 2_000
CLIP = 12

# %%
env = Attention3DVecEnv(Attention3DVectorEnv(num_envs=64))  # the built-in bank; or bank="runs/bank"
agent = agents.make("reinforce", env, seed=0).learn(TIMESTEPS)
episode = record_episode(env, agent, clip=CLIP)
print("\n".join(describe_episode(episode)))

# %% [markdown]
# The frames with the bins, the bins in the clip's volume, and for each glimpse the true person's probability by
# the bin looked at. In a notebook the figure shows itself.

# %%
figure = episode.figure()
figure.savefig("episode.png")

# %%
for number in (2, 3, 4):
    found = episode.reward_map(number)
    print(f"glimpse {number}: {episode.corner(number)}, the best would have been {found.best}")

# %% [markdown]
# What if glimpse 2 had gone to its best bin? What follows is the agent's.

# %%
changed = episode.replay({2: episode.reward_map(2).best})
print("\n".join(describe_change(changed)))
changed.to_html("episode.html")  # one page that needs no other file

# %%
episode.save("episode.npz")
again = Episode.load("episode.npz", agent=agent)
print("loaded:", again.bins.tolist() == episode.bins.tolist())
