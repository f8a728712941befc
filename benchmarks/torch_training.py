"""How the twin in PyTorch learns and acts: the same windows, masking, objectives and optimiser as ours."""

import itertools
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.torch_encoder import TorchEncoder, Windows
from collectiverl.representation.batches import Draw, Pack
from collectiverl.representation.losses import FAR, MASKED, REPLACED, ZEROED
from collectiverl.representation.updates import TransformerConfig


def one_thread_a_core() -> None:
    """As many threads as the measurement has cores."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


class TorchRows(NamedTuple):
    """All episodes, one behind the other, as `Rows`."""

    state: Tensor
    action: Tensor
    reward: Tensor

    @classmethod
    def of(cls, data: Pack) -> "TorchRows":
        return cls(*(torch.from_numpy(np.array(column)) for column in data.rows))


def gather(rows: TorchRows, first: Tensor, end: Tensor, context: Tensor, size: int) -> Windows:
    """Raw windows by row numbers; their changes are not known yet."""
    age = torch.arange(size - 1, -1, -1)
    at = end[:, None] - age
    mask = (at >= first[:, None]) & (age < context[:, None])
    state, action, reward = (column[at.clamp(min=0)] for column in rows)
    return Windows(state, torch.zeros(0), action, reward[..., None], mask)


# -- objectives --------------------------------------------------------------------------------------------


def corrupt(windows: Windows) -> tuple[Windows, Tensor]:
    """As `losses.corrupt`; where parts are hidden has shape (3, B, L)."""
    where, how = torch.rand(2, 3, *windows.mask.shape)
    places = (where < MASKED) & windows.mask
    zeroed, replaced = places & (how < ZEROED), places & (how >= 1 - REPLACED)

    def hide(part: Tensor, row: int) -> Tensor:
        others = torch.where(replaced[row][..., None], part.roll(1, dims=0), part)
        return others.masked_fill(zeroed[row][..., None], 0)

    known = ~places[2] & ~places[2].roll(1, dims=1)
    return Windows(
        action=hide(windows.action, 0),
        reward=hide(windows.reward, 1),
        state=hide(windows.state, 2),
        change=windows.change * known[..., None],
        mask=windows.mask,
    ), places


def objective(
    model: TorchEncoder,
    windows: Windows,
    hidden: Windows,
    places: Tensor,
    drawn: Draw,
    config: TransformerConfig,
) -> Tensor:
    """Masked reconstruction and InfoNCE, weighted."""
    z, guess = model.read(hidden)
    truth = windows.action, windows.reward, windows.state
    errors = torch.stack([((g - t) ** 2).mean(dim=-1) for g, t in zip(guess, truth, strict=True)])
    by_part = (errors * places).sum(dim=(1, 2)) / places.sum(dim=(1, 2)).clamp(min=1)
    positive_group, buffer = torch.from_numpy(drawn.positive_group), torch.from_numpy(drawn.buffer)
    c = config.objective
    return c.reconstruction * by_part.mean() + c.contrast * info_nce(z, positive_group, buffer, c.temperature)


def info_nce(z: Tensor, positive_group: Tensor, buffer: Tensor, temperature: float) -> Tensor:
    """As `losses.info_nce`, with windows of other buffers as negatives."""
    unit = z * torch.rsqrt((z**2).sum(dim=1, keepdim=True) + 1e-8)
    logits = unit @ unit.T / temperature
    positive = (positive_group[:, None] == positive_group).fill_diagonal_(False)
    rest = logits.masked_fill(buffer[:, None] == buffer, FAR).logsumexp(dim=1, keepdim=True)
    return (positive * (torch.logaddexp(rest, logits) - logits)).sum() / positive.sum().clamp(min=1)


# -- training ----------------------------------------------------------------------------------------------


class TorchTrainer:
    """One update of the twin for every draw."""

    def __init__(self, model: TorchEncoder, data: Pack, config: TransformerConfig):
        self.model, self.rows, self.config = model.train(), TorchRows.of(data), config
        matrices = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=0.0, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)

    def _rate(self, update: int) -> float:
        """Up a line, then down a cosine."""
        c = self.config
        if update < c.warmup:
            return update / c.warmup
        return (1 + math.cos(math.pi * (update - c.warmup) / (c.updates - c.warmup))) / 2

    def update(self, drawn: Draw) -> float:
        """Learns from one batch, and returns its loss."""
        places = map(torch.from_numpy, (drawn.first, drawn.end, drawn.context))
        with torch.no_grad():
            raw = gather(self.rows, *places, self.config.encoder.window)
            windows = self.model.standardize(raw)
            hidden, where = corrupt(windows)
        self.optimizer.zero_grad()
        loss = objective(self.model, windows, hidden, where, drawn, self.config)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.schedule.step()
        return loss.item()


# -- use ---------------------------------------------------------------------------------------------------


class TorchPolicy:
    """Acts on running windows, which it reads anew at every step, as `CollectivePolicy` does."""

    def __init__(self, model: TorchEncoder, actor: nn.Module, state_index: Sequence[int], num_envs: int):
        self.model, self.actor, self.state_index = model.eval(), actor.eval(), list(state_index)
        state_dim, size = len(state_index), model.position.shape[0] // model.per_step
        action_dim = model.decoders[0].out_features
        shapes = (state_dim,), (action_dim,), (1,)
        self.state, self.action, self.reward = (torch.zeros(num_envs, size, *shape) for shape in shapes)
        self.mask = torch.zeros(num_envs, size, dtype=torch.bool)
        self.acted, self.rewards = torch.zeros(num_envs, action_dim), torch.zeros(num_envs, 1)

    @torch.inference_mode()
    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        state = torch.from_numpy(observations[:, self.state_index].astype(np.float32))
        shown = torch.ones(len(state), dtype=torch.bool)
        self.state, self.action = _behind(self.state, state), _behind(self.action, self.acted)
        self.reward, self.mask = _behind(self.reward, self.rewards), _behind(self.mask, shown)
        z = self.model(Windows(self.state, torch.zeros(0), self.action, self.reward, self.mask))
        self.acted = torch.tanh(self.actor(torch.cat([z, state], dim=1)))
        return self.acted.numpy()

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        self.rewards = torch.from_numpy(rewards.astype(np.float32))[:, None]


def _behind(column: Tensor, latest: Tensor) -> Tensor:
    return torch.cat([column[:, 1:], latest[:, None]], dim=1)


def actor(inputs: int, action_dim: int, width: int, depth: int) -> nn.Module:
    """Means of a Gaussian policy before tanh."""
    sizes = [inputs, *[width] * depth]
    pairs = itertools.pairwise(sizes)
    hidden = [layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, action_dim))


@torch.inference_mode()
def embed_all(
    model: TorchEncoder, rows: TorchRows, first, end, context, batch: int
) -> Float[np.ndarray, "B Z"]:
    """As `context.embed_all`: any number of windows by row numbers, `batch` at a time."""
    numbers = torch.from_numpy(np.stack([first, end, context])).split(batch, dim=1)
    size = model.position.shape[0] // model.per_step
    return torch.cat([model(gather(rows, *places, size)) for places in numbers]).numpy()
