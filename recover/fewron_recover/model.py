"""The forward pass, dense or under a mask: the engine's arithmetic (fewron-model, `forward.rs`) in PyTorch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fewron_recover.config import LayerConfig, ModelConfig
from fewron_recover.mask import LayerMask, kept, neuron_scores, quantile_of_sample
from fewron_recover.source import BaseModel

LayerWeights = dict[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """All weights in the form in which they are used: see `BaseModel`."""

    layers: list[LayerWeights]
    outer: dict[str, Tensor]

    @property
    def head(self) -> Tensor:
        """The output head, `[vocab, hidden]`."""
        return self.outer.get("head", self.outer["embedding"])


@dataclass(frozen=True)
class KvCache:
    """Keys and values of a layer, `[batch, kv_heads, length, head_dim]`, and the position `[1]` that is written."""

    keys: Tensor
    values: Tensor
    position: Tensor


@dataclass(frozen=True)
class Passed:
    """What a pass gives: final normed states `[b, t, hidden]`, residual streams, and where to cut each layer."""

    states: Tensor
    residuals: list[Tensor]
    cuts: list[Tensor | None]


Block = Callable[..., tuple[Tensor, Tensor | None]]


def dense_weights(model: BaseModel) -> Weights:
    """The model's own weights in f32."""
    layers = [{name: stored.dense() for name, stored in layer.items()} for layer in model.layers]
    return Weights(layers, {name: stored.dense() for name, stored in model.outer.items()})


def norm(config: ModelConfig, x: Tensor, weights: LayerWeights, name: str) -> Tensor:
    """RMS norm (arXiv 1910.07467) or layer norm (arXiv 1607.06450) over the last dimension, in f32."""
    x = x.float()
    if config.layer_norm:
        return F.layer_norm(x, x.shape[-1:], weights[name], weights[f"{name}.bias"], config.norm_eps)
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config.norm_eps) * weights[name]


def rope_table(config: ModelConfig, layer: LayerConfig, positions: Tensor, factors: Tensor | None) -> Tensor:
    """Cosines and sines, `[2, positions, rope_dim / 2]` (Su et al., arXiv 2104.09864)."""
    exponents = torch.arange(0, config.rope_dim, 2, dtype=torch.float64, device=positions.device) / config.rope_dim
    frequencies = (layer.rope_theta**-exponents).float()
    if factors is not None:
        frequencies = frequencies / factors
    angles = (positions.float() * layer.rope_scale)[:, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()])


def rotate(config: ModelConfig, x: Tensor, table: Tensor) -> Tensor:
    """Rotates heads `[b, heads, t, head_dim]`: neighbours (`llama` GGUF files) or halves."""
    rotated, rest = x[..., : config.rope_dim].float(), x[..., config.rope_dim :]
    cos, sin = table[0], table[1]
    if config.rope_neighbours:
        a, b = rotated[..., 0::2], rotated[..., 1::2]
        rotated = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    else:
        a, b = rotated.chunk(2, -1)
        rotated = torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
    return torch.cat([rotated.to(x.dtype), rest], -1)


def activation(config: ModelConfig, x: Tensor) -> Tensor:
    """SiLU, or GELU in its tanh form."""
    return F.silu(x) if config.activation == "silu" else F.gelu(x, approximate="tanh")


def _project(weights: LayerWeights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[name], weights.get(f"{name}.bias"))


def _attention(
    config: ModelConfig,
    weights: LayerWeights,
    x: Tensor,
    table: Tensor,
    visible: Tensor | None,
    off_heads: Tensor | None,
    cache: KvCache | None,
) -> Tensor:
    batch, time, _ = x.shape
    heads = {
        name: _project(weights, name, x).view(batch, time, -1, config.head_dim).transpose(1, 2)
        for name in ("q", "k", "v")
    }
    q, k, v = heads["q"], heads["k"], heads["v"]
    if config.qk_norm:
        q = norm(config, q, weights, "attn_q_norm").to(v.dtype)
        k = norm(config, k, weights, "attn_k_norm").to(v.dtype)
    q, k = rotate(config, q, table), rotate(config, k, table)
    if cache is not None:
        k = cache.keys.index_copy_(2, cache.position, k.to(cache.keys.dtype))
        v = cache.values.index_copy_(2, cache.position, v.to(cache.values.dtype))
        # One token: the heads that share keys can stand for tokens that do.
        q = q.to(k.dtype).view(batch, config.kv_heads, -1, config.head_dim)
    shared = cache is None and config.heads != config.kv_heads
    z = F.scaled_dot_product_attention(
        q, k, v, attn_mask=visible, is_causal=visible is None, scale=config.attention_scale, enable_gqa=shared
    )
    z = z.reshape(batch, config.heads, time, config.head_dim).transpose(1, 2)
    if off_heads is not None:
        z = z.masked_fill(off_heads[..., None], 0.0)
    return _project(weights, "o", z.reshape(batch, time, -1))


def _mlp(
    config: ModelConfig, weights: LayerWeights, x: Tensor, mask: LayerMask | None, masked: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    up = _project(weights, "up", x)
    if config.gated:
        act = activation(config, _project(weights, "gate", x))
        outputs = act * up
    else:
        act = outputs = activation(config, up)
    if mask is None or masked is None:
        return _project(weights, "down", outputs), None
    outputs, cuts = _select(mask, masked[..., None], act, outputs, x)
    out = _project(weights, "down", outputs)
    if mask.cuts and mask.compensation is not None:
        out = out + torch.where(masked[..., None], mask.compensation(x), 0.0)
    return out, cuts


def _select(mask: LayerMask, masked: Tensor, act: Tensor, outputs: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Outputs with those of neurons that are off set to zero for masked tokens `[b, t, 1]`, and the stages' cuts."""
    cuts: list[Tensor] = []
    count = masked.sum() * outputs.shape[-1]
    if mask.cuts:
        seen = (act, outputs, x) if mask.temperature is not None else (act.detach(), outputs.detach(), x.detach())
        scores = neuron_scores(mask, *seen)
        keep = kept(mask, scores)
        if mask.shares is not None:
            cuts.append(_cut(scores, mask.shares[0], 1 - (keep.detach() * masked).sum() / count))
        outputs = outputs * torch.where(masked, keep, 1.0).to(outputs.dtype)
    if mask.down_above is not None and mask.down_norms is not None:
        sizes = outputs.detach().float().abs() * mask.down_norms
        stays = sizes >= mask.down_above
        if mask.shares is not None:
            cuts.append(_cut(sizes, mask.shares[1], 1 - (stays & masked).sum() / count))
        outputs = outputs * (stays | ~masked)
    return outputs, torch.stack(cuts) if cuts else None


def _cut(scores: Tensor, share: Tensor, off: Tensor) -> Tensor:
    """Where a stage would have to cut for a share to be off, and the share that is."""
    return torch.stack([quantile_of_sample(scores, share), off.to(scores.dtype)])


def block(
    config: ModelConfig,
    weights: LayerWeights,
    x: Tensor,
    table: Tensor,
    visible: Tensor | None = None,
    mask: LayerMask | None = None,
    masked: Tensor | None = None,
    cache: KvCache | None = None,
) -> tuple[Tensor, Tensor | None]:
    """One block on the residual stream `[b, t, hidden]`, and of each stage of its cuts `[stages, 2]`: see `_cut`.

    `visible` `[t, keys]` says what a token attends to, if not all before it; `masked` `[b, t]` which tokens the
    mask is for.
    """
    normed = norm(config, x, weights, "attn_norm")
    off_heads = None
    if mask is not None and masked is not None and mask.heads is not None:
        off_heads = masked[..., None] & ~mask.heads
    attended = _attention(config, weights, normed, table, visible, off_heads, cache)
    if config.post_norm:
        attended = norm(config, attended, weights, "post_attention_norm")
    between = x + attended
    normed = normed if config.parallel else norm(config, between, weights, "ffn_norm")
    out, cuts = _mlp(config, weights, normed, mask, masked)
    if config.post_norm:
        out = norm(config, out, weights, "post_ffw_norm")
    return between + out, cuts


def window_mask(layer: LayerConfig, positions: Tensor, keys: Tensor) -> Tensor:
    """Which keys the tokens at `positions` see, `[positions, keys]`: themselves and what the window holds."""
    distance = positions[:, None] - keys[None]
    seen = distance >= 0
    return seen if layer.window is None else seen & (distance < layer.window)


def embed(config: ModelConfig, weights: Weights, tokens: Tensor) -> Tensor:
    """The residual stream before the first block, f32 `[b, t, hidden]`."""
    return F.embedding(tokens, weights.outer["embedding"]).float() * config.embedding_scale


def forward(
    config: ModelConfig,
    weights: Weights,
    tokens: Tensor,
    masks: Sequence[LayerMask | None] | None = None,
    masked: Tensor | None = None,
    run: Block = block,
    residuals: bool = False,
) -> Passed:
    """Texts `[b, t]` from their first position on; tokens of `masked` `[b, t]` run under the layers' masks."""
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    x = embed(config, weights, tokens)
    factors = weights.outer.get("rope_factors")
    seen: dict[LayerConfig, tuple[Tensor, Tensor | None]] = {}
    streams: list[Tensor] = []
    cuts: list[Tensor | None] = []
    for index, layer in enumerate(config.layers):
        if layer not in seen:
            whole = layer.window is None or tokens.shape[1] <= layer.window
            visible = None if whole else window_mask(layer, positions, positions)
            seen[layer] = (rope_table(config, layer, positions, factors), visible)
        table, visible = seen[layer]
        mask = None if masks is None else masks[index]
        x, cut = run(config, weights.layers[index], x, table, visible, mask, masked)
        cuts.append(cut)
        if residuals:
            streams.append(x)
    return Passed(norm(config, x, weights.outer, "norm"), streams, cuts)


def logits(weights: Weights, states: Tensor) -> Tensor:
    """Of final states, f32 `[…, vocab]`."""
    return F.linear(states, weights.head, weights.outer.get("head.bias")).float()
