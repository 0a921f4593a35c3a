# %% [markdown]
# # The environment, and PPO in a plain loop
#
# Nothing of stable-baselines3 here: environment, buffer and policy are tensors on one device, and PPO is one
# visible loop. The bank is the built-in playground: each clip has a code of its identity in one region, and every
# cell says where that region is.

# %%
import gymnasium
import torch
from torch import nn
from torch.distributions import Normal

from a3d_env.env import make_process
from a3d_env.tensors import Attention3DTensorEnv

ITERATIONS = 40  # of the outer loop: rollout, then epochs on it
NUM_ENVS = 256
EPOCHS = 4
CLIP_RANGE = 0.2
DEVIATION = 0.3  # of the Gaussian around the policy's mean, in [-1, 1] coordinates

# %% [markdown]
# A single environment: the observation has the bin's feature, the hidden state (which has read the bin already)
# and the location; an action is where to look next, time, height, width in [-1, 1]; the reward comes at the end.

# %%
env = gymnasium.make("a3d_env:A3D/Attention3D-v0")
observation, info = env.reset(seed=0)
print({name: value.shape for name, value in observation.items()}, env.action_space)
terminated = False
while not terminated:
    observation, reward, terminated, _, info = env.step(env.action_space.sample())
print("reward", reward, "right" if info["is_success"] else "wrong")

# %% [markdown]
# The same in a batch, as tensors on a GPU if there is one (`gymnasium.make_vec` makes a batch of NumPy arrays),
# and two small networks on the hidden state: the policy's mean, and the value.

# %%
torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
envs = Attention3DTensorEnv(NUM_ENVS, make_process(exact=False, device=device))
actor = nn.Sequential(nn.Linear(256, 64), nn.Tanh(), nn.Linear(64, 3), nn.Tanh()).to(device)
critic = nn.Sequential(nn.Linear(256, 64), nn.Tanh(), nn.Linear(64, 1)).to(device)
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-3)

# %%
observation = envs.reset(seed=0)
history = []  # of tensors, so that no iteration waits for a GPU
for iteration in range(ITERATIONS):
    # rollout: one whole episode in each environment; the next begins in the step that ends it
    hidden, actions, rewards = [], [], []
    with torch.no_grad():
        for _ in range(envs.num_decisions):
            hidden.append(observation["hidden"])
            actions.append(Normal(actor(hidden[-1]), DEVIATION).sample())
            observation, reward, _, _, _ = envs.step(actions[-1])
            rewards.append(reward)
        returns = torch.stack(rewards).flip(0).cumsum(0).flip(0).flatten()  # gamma is 1
        states, looks = torch.cat(hidden), torch.cat(actions)
        old_log_prob = Normal(actor(states), DEVIATION).log_prob(looks).sum(1)
        advantages = returns - critic(states).squeeze(1)
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    # update: the clipped objective, and the value's regression to the return
    for _ in range(EPOCHS):
        ratio = (Normal(actor(states), DEVIATION).log_prob(looks).sum(1) - old_log_prob).exp()
        clipped = ratio.clamp(1 - CLIP_RANGE, 1 + CLIP_RANGE)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        value_loss = (critic(states).squeeze(1) - returns).square().mean()
        optimizer.zero_grad()
        (policy_loss + 0.5 * value_loss).backward()
        optimizer.step()
    history.append(rewards[-1].mean())
    if iteration % 10 == 0:
        print(f"iteration {iteration}: {history[-1]:.2f} of the episodes named the right person")
print(f"first {history[0]:.2f}, last {history[-1]:.2f}")
