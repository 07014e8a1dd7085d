"""A PPO update in PyTorch, eager, as CleanRL writes it, on random samples of the same shapes; losses and clipping
included."""

import math

import torch
from torch import nn

import measure

ACTIONS = 7


def mlp(outputs, width):
    return nn.Sequential(nn.Linear(302, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.q, self.k, self.v, self.out = (nn.Linear(d, d) for _ in range(4))
        self.feedforward = nn.Sequential(nn.Linear(d, 4 * d), nn.ReLU(), nn.Linear(4 * d, d))

    def forward(self, x):
        y = self.norm1(x)
        q, k, v = (f(y).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.feedforward(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self, outputs, width, tokens=106, d=32, blocks=2, heads=4):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(tokens, d) / math.sqrt(d))
        self.bias = nn.Parameter(torch.zeros(tokens, d))
        self.blocks = nn.Sequential(*[Block(d, heads) for _ in range(blocks)])
        self.norm = nn.LayerNorm(d)
        self.projection = nn.Linear(tokens * d, width)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, x):
        y = self.blocks(x[:, :, None] * self.weight + self.bias)
        return self.head(self.projection(self.norm(y).flatten(1)))


class Update:
    def __init__(self, actor, critic, columns, samples, batch, at_once):
        self.actor, self.critic = actor, critic
        self.log_std = nn.Parameter(torch.full((1, ACTIONS), 0.5))
        self.parameters = [self.log_std, *actor.parameters(), *critic.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=3e-4, eps=1e-5, fused=True)
        self.batch, self.at_once = batch, at_once
        self.x = torch.randn(samples, columns)
        with torch.no_grad():
            mean = self.actor(self.x)
            self.u = mean + self.log_std.exp() * torch.randn_like(mean)
            self.old = self.log_probability(mean, self.u)
        self.advantage, self.target = torch.randn(samples), torch.randn(samples)

    def log_probability(self, mean, u):
        z = (u - mean) * (-self.log_std).exp()
        return (-0.5 * z.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(1)

    def __call__(self):
        order = torch.randperm(len(self.x))
        for minibatch in order.split(self.batch):
            advantage = self.advantage[minibatch]
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            self.optimizer.zero_grad()
            for index, a in zip(minibatch.split(self.at_once), advantage.split(self.at_once)):
                x, u = self.x[index], self.u[index]
                ratio = (self.log_probability(self.actor(x), u) - self.old[index]).exp()
                policy = torch.maximum(-a * ratio, -a * ratio.clamp(0.8, 1.2)).mean()
                value = (self.critic(x).squeeze(1) - self.target[index]).square().mean()
                ((policy + 0.5 * value) * (len(index) / len(minibatch))).backward()
            nn.utils.clip_grad_norm_(self.parameters, 0.5)
            self.optimizer.step()


def main():
    chosen = measure.options(["update-wide", "update-transformer", "update-context"])
    torch.manual_seed(1)
    cases = []
    if chosen.bench == "update-wide":
        square = torch.randn(4096, 4096)
        cases.append(("matrix peak, 4096", "flops", 2 * 4096**3, lambda: square @ square))
        for batch, what in ((4096, ""), (16384, ""), (32768, ", 6.5 samples a bar")):
            samples = max(batch, 16384)
            update = Update(mlp(ACTIONS, 1024), mlp(1, 1024), 302, samples, batch, min(batch, 16384))
            for precision in ("fp32", "bf16"):  # of ours
                cases.append((f"302-1024-1024-7, batch {batch:,}{what}, {precision}", "samples", samples, update))
    elif chosen.bench == "update-context":  # what market_context replaces, over the same observation
        for columns in (106, 204):
            update = Update(Transformer(ACTIONS, 1024, columns), Transformer(1, 1024, columns), columns, 512, 512, 128)
            for tokens in ("asset tokens, fp32", "asset tokens, bf16", "feature tokens, fp32", "feature tokens, bf16"):
                cases.append((f"S={columns}, d=32, 2 blocks, W=1024, {tokens}", "samples", 512, update))
    else:
        for at_once in (512, 128):
            update = Update(Transformer(ACTIONS, 1024), Transformer(1, 1024), 106, 512, 512, at_once)
            cases.append((f"106 tokens, d=32, 2 blocks, W=1024, batch 512, {at_once} at once", "samples", 512, update))
    measure.measure(chosen, cases)


if __name__ == "__main__":
    main()
