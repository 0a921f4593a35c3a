# %% [markdown]
# # Swap the algorithm, and compare
#
# One word changes the algorithm. All of them learn on the same bank, and are compared by the interquartile mean
# over seeds with its bootstrap interval. `a3d compare` does this with a process for each run, on held-out clips,
# and writes a page.

# %%
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy

import agents
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.comparison import probability_of_improvement, stratified_interval

NAMES = ["reinforce", "ppo", "random"]
SEEDS = 3
TIMESTEPS = 5_000
EPISODES = 200  # that score an agent

# %%
scores = {}
for name in NAMES:
    scores[name] = []
    for seed in range(SEEDS):
        env = Attention3DVecEnv(Attention3DVectorEnv(num_envs=64))  # the built-in bank; or bank="runs/bank"
        agent = agents.make(name, env, seed=seed).learn(TIMESTEPS)
        reward, _ = evaluate_policy(agent, env, EPISODES, deterministic=True, warn=False)
        scores[name].append(reward)
    print(name, np.round(scores[name], 3))

# %% [markdown]
# With three seeds an interval is too narrow; `agents.comparison` says by how much. A probability of improvement
# of 1 means that each run of the first agent beat each run of the other.

# %%
for name, values in scores.items():
    middle = stratified_interval(np.array(values))
    beats = probability_of_improvement(np.array(values), np.array(scores["random"]))
    print(f"{name}: {middle.value:.3f} [{middle.low:.3f}, {middle.high:.3f}], beats random: {beats.value:.2f}")
