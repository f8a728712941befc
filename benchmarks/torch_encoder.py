"""The trajectory encoder's twin in PyTorch, eager: `torch.nn.TransformerEncoder` between the same layers as ours.

Batches of windows come first in every shape: B windows of L steps.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collectiverl.nn.normalizer import CLIP
from collectiverl.nn.transformer import Block
from collectiverl.representation.encoder import Encoder, EncoderConfig
from collectiverl.representation.tokens import INITIAL_SCALE, CLSTransformer, InterleavedTokens, JointTokens


class Windows(NamedTuple):
    """As `Standard`, and as `Window` before it is standardised."""

    state: Tensor  # (B, L, S)
    change: Tensor  # (B, L, S)
    action: Tensor  # (B, L, A)
    reward: Tensor  # (B, L, 1)
    mask: Tensor  # (B, L)


class Scale(nn.Module):
    """A frozen normaliser."""

    def __init__(self, size: int):
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).clamp(-CLIP, CLIP)


class JointLayout(nn.Module):
    """One token a step."""

    def __init__(self, sizes: tuple[int, ...], dim: int):
        super().__init__()
        self.embed = nn.Linear(sum(sizes), dim)
        self.parts = len(sizes)

    def forward(self, parts: tuple[Tensor, ...]) -> Tensor:
        return self.embed(torch.cat(parts, dim=-1))

    def outputs_of_parts(self, outputs: Tensor) -> tuple[Tensor, ...]:
        return (outputs,) * self.parts


class InterleavedLayout(nn.Module):
    """One token a part."""

    def __init__(self, sizes: tuple[int, ...], dim: int):
        super().__init__()
        self.embeds = nn.ModuleList(nn.Linear(size, dim) for size in sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in sizes)

    def forward(self, parts: tuple[Tensor, ...]) -> Tensor:
        kinds = zip(self.embeds, self.norms, parts, strict=True)
        return torch.stack([norm(embed(part)) for embed, norm, part in kinds], dim=2).flatten(1, 2)

    def outputs_of_parts(self, outputs: Tensor) -> tuple[Tensor, ...]:
        return outputs.unflatten(1, (-1, len(self.embeds))).unbind(dim=2)


class TorchEncoder(nn.Module):
    """The model that `init_encoder` makes, for rewards and changes read and a transformer."""

    def __init__(self, config: EncoderConfig, state_dim: int, action_dim: int):
        super().__init__()
        self.state_scale, self.reward_scale, self.change_scale = Scale(state_dim), Scale(1), Scale(state_dim)
        layout = JointLayout if config.layout == "joint" else InterleavedLayout
        self.tokens = layout((action_dim, 1, 2 * state_dim), config.dim)
        self.per_step = 1 if config.layout == "joint" else 3
        most = config.window * self.per_step
        self.cls = nn.Parameter(INITIAL_SCALE * torch.randn(config.dim))
        self.position = nn.Parameter(INITIAL_SCALE * torch.randn(most, config.dim))
        self.transformer = nn.TransformerEncoder(
            layer_of(config), config.layers, nn.LayerNorm(config.dim), enable_nested_tensor=False
        )
        self.head = nn.Linear(config.dim, config.z_dim)
        self.decoders = nn.ModuleList(nn.Linear(config.dim, size) for size in (action_dim, 1, state_dim))

    def drop_within(self, rate: float) -> None:
        """Drops out attention's weights and hidden units as well, as PyTorch's layer does of its own."""
        for layer in self.transformer.layers:
            layer.self_attn.dropout = layer.dropout.p = rate

    def forward(self, windows: Windows) -> Tensor:
        """The embeddings (B, Z) of raw windows."""
        return self.read(self.standardize(windows))[0]

    def standardize(self, windows: Windows) -> Windows:
        w, shown = windows, windows.mask[..., None]
        followed = shown & shown.roll(1, dims=1)
        followed[:, 0] = False
        return Windows(
            state=self.state_scale(w.state) * shown,
            change=self.change_scale(w.state - w.state.roll(1, dims=1)) * followed,
            action=w.action * shown,
            reward=self.reward_scale(w.reward) * shown,
            mask=w.mask,
        )

    def read(self, standard: Windows) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Embeddings, and the reconstruction of every part of every step."""
        s = standard
        tokens = self.tokens((s.action, s.reward, torch.cat([s.state, s.change], dim=-1)))
        placed = tokens + self.position[-tokens.shape[1] :]
        sequence = torch.cat([self.cls.expand(len(placed), 1, -1), placed], dim=1)
        padding = F.pad(~s.mask.repeat_interleave(self.per_step, dim=1), (1, 0))
        outputs = self.transformer(sequence, src_key_padding_mask=padding)
        kinds = zip(self.decoders, self.tokens.outputs_of_parts(outputs[:, 1:]), strict=True)
        raw = self.head(outputs[:, 0])
        z = raw * torch.rsqrt((raw**2).mean(dim=-1, keepdim=True) + 1e-8)
        return z, tuple(decoder(output) for decoder, output in kinds)


def layer_of(config: EncoderConfig) -> nn.TransformerEncoderLayer:
    """A pre-norm layer with dropout where ours has it: on what is added, see `drop_within`."""
    c = config
    layer = nn.TransformerEncoderLayer(
        c.dim, c.heads, c.feedforward, c.dropout, batch_first=True, norm_first=True
    )
    layer.self_attn.dropout = layer.dropout.p = 0.0
    return layer


# -- our weights in it -------------------------------------------------------------------------------------


@torch.no_grad()
def copy_weights(twin: TorchEncoder, encoder: Encoder) -> None:
    """Makes the twin the same function as `encoder`."""
    for name in ("state_scale", "reward_scale", "change_scale"):
        ours, scale = getattr(encoder, name), getattr(twin, name)
        variance = np.asarray(ours.m2) / max(float(ours.count), 1.0)
        _fill(scale.mean, ours.mean)
        _fill(scale.std, np.maximum(np.sqrt(variance), ours.floor))
    reader, tokens = encoder.body, encoder.tokens
    assert isinstance(reader, CLSTransformer)
    _fill(twin.cls, reader.cls)
    _fill(twin.position, reader.position)
    if isinstance(tokens, JointTokens):
        _linear(twin.tokens.embed, tokens.embed)
    else:
        assert isinstance(tokens, InterleavedTokens)
        for into, ours in zip(twin.tokens.embeds, tokens.embeds, strict=True):
            _linear(into, ours)
        for into, ours in zip(twin.tokens.norms, tokens.norms, strict=True):
            _norm(into, ours)
    for layer, block in zip(twin.transformer.layers, reader.transformer.blocks, strict=True):
        _block(layer, block)
    _norm(twin.transformer.norm, reader.transformer.norm)
    for into, ours in zip((twin.head, *twin.decoders), (encoder.head, *encoder.decoders), strict=True):
        _linear(into, ours)


def _block(layer: nn.TransformerEncoderLayer, block: Block) -> None:
    attention = layer.self_attn
    _fill(attention.in_proj_weight, block.attention.qkv.weight.T)
    _fill(attention.in_proj_bias, block.attention.qkv.bias)
    for into, ours in (
        (attention.out_proj, block.attention.out),
        (layer.linear1, block.widen),
        (layer.linear2, block.narrow),
    ):
        _linear(into, ours)
    _norm(layer.norm1, block.norm_attention)
    _norm(layer.norm2, block.norm_feedforward)


def _linear(into: Any, ours: Any) -> None:
    _fill(into.weight, ours.weight.T)
    _fill(into.bias, ours.bias)


def _norm(into: Any, ours: Any) -> None:
    _fill(into.weight, ours.weight)
    _fill(into.bias, ours.bias)


def _fill(into: Tensor, ours: Any) -> None:
    into.copy_(torch.from_numpy(np.array(ours)))
