"""What a model is made of: one block, driven by a value for each family."""

from dataclasses import dataclass
from typing import Any

from fewron_recover.errors import RecoverError


@dataclass(frozen=True)
class LayerConfig:
    """Attention of one layer, where layers differ."""

    rope_theta: float
    rope_scale: float = 1.0
    window: int | None = None


@dataclass(frozen=True)
class ModelConfig:
    """Shape and wiring.

    Sequential::

        x ─┬─ norm ─ attention ─ [post-norm] ─(+)─┬─ norm ─ MLP ─ [post-norm] ─(+)─
           └──────────────────────────────────────┘└──────────────────────────────┘

    Parallel (Phi)::

        x ─┬─ norm ─┬─ attention ─(+)─(+)─
           │        └─ MLP ────────┘   │
           └───────────────────────────┘
    """

    family: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_dim: int
    rope_neighbours: bool
    intermediate: int
    vocab: int
    layer_norm: bool
    norm_eps: float
    parallel: bool
    gated: bool
    activation: str
    embedding_scale: float
    attention_scale: float
    qk_norm: bool
    post_norm: bool
    layers: tuple[LayerConfig, ...]

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of a block's matrices, by the names that plans have for them."""
        query, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes = {
            "q": (query, self.hidden),
            "k": (kv, self.hidden),
            "v": (kv, self.hidden),
            "o": (self.hidden, query),
            "gate": (self.intermediate, self.hidden),
            "up": (self.intermediate, self.hidden),
            "down": (self.hidden, self.intermediate),
        }
        return shapes if self.gated else {k: v for k, v in shapes.items() if k != "gate"}

    @property
    def norms(self) -> tuple[str, ...]:
        """A block's norms."""
        names = ["attn_norm"]
        names += [] if self.parallel else ["ffn_norm"]
        names += ["attn_q_norm", "attn_k_norm"] if self.qk_norm else []
        return tuple(names + (["post_attention_norm", "post_ffw_norm"] if self.post_norm else []))


_GGUF_KEYS = """vocab_size context_length embedding_length block_count feed_forward_length
attention.head_count attention.head_count_kv attention.key_length attention.value_length
attention.layer_norm_epsilon attention.layer_norm_rms_epsilon attention.sliding_window
attention.sliding_window_pattern rope.dimension_count rope.freq_base rope.freq_base_swa rope.scaling.type
rope.scaling.factor rope.scaling.original_context_length rope.scaling.finetuned use_parallel_residual""".split()


def from_gguf(metadata: dict[str, Any], vocab: int) -> ModelConfig:
    """Reads a GGUF file's metadata; a key that may change the arithmetic and is not known is refused."""
    arch = metadata.get("general.architecture")
    if arch not in ("llama", "gemma3", "phi2"):
        raise RecoverError(f"general.architecture is {arch!r}; recovery knows llama, gemma3, phi2")
    unknown = [k for k in metadata if k.startswith(f"{arch}.") and k.removeprefix(f"{arch}.") not in _GGUF_KEYS]
    if unknown:
        raise RecoverError(f"{unknown[0]} may change the arithmetic and is not known")

    def key(name: str, default: Any = None) -> Any:
        value = metadata.get(f"{arch}.{name}", default)
        if value is None:
            raise RecoverError(f"{arch}.{name} is missing")
        return value

    gemma, phi = arch == "gemma3", arch == "phi2"
    hidden, heads, layers = key("embedding_length"), key("attention.head_count"), key("block_count")
    head_dim = key("attention.key_length", hidden // heads)
    scaling = key("rope.scaling.type", "none")
    if scaling not in ("none", "linear"):
        raise RecoverError(f"{arch}.rope.scaling.type is {scaling!r}; recovery knows none, linear")
    scale = 1.0 / key("rope.scaling.factor") if scaling == "linear" else 1.0
    everywhere = LayerConfig(key("rope.freq_base", 1e6 if gemma else 1e4), scale)
    # Gemma 3, technical report, section 2: five layers with a window, then one without.
    window = key("attention.sliding_window", 0) if gemma else 0
    pattern = key("attention.sliding_window_pattern", 6) if window else 1
    local = LayerConfig(key("rope.freq_base_swa", 1e4), window=window)
    score_width = hidden // heads if gemma and layers == 62 else head_dim
    return ModelConfig(
        family=arch,
        hidden=hidden,
        heads=heads,
        kv_heads=key("attention.head_count_kv", heads),
        head_dim=head_dim,
        rope_dim=key("rope.dimension_count", head_dim),
        rope_neighbours=arch == "llama",
        intermediate=key("feed_forward_length"),
        vocab=vocab,
        layer_norm=phi,
        norm_eps=key("attention.layer_norm_epsilon" if phi else "attention.layer_norm_rms_epsilon"),
        parallel=phi,
        gated=not phi,
        activation="gelu_tanh" if gemma or phi else "silu",
        embedding_scale=hidden**0.5 if gemma else 1.0,
        attention_scale=score_width**-0.5,
        qk_norm=gemma,
        post_norm=gemma,
        layers=tuple(everywhere if (i + 1) % pattern == 0 else local for i in range(layers)),
    )


def _rotation(keys: dict[str, Any], part: dict[str, Any] | None, theta: float) -> LayerConfig:
    part = part or keys.get("rope_scaling") or {}
    kind = part.get("rope_type", part.get("type", "default"))
    if kind not in ("default", "linear"):
        raise RecoverError(
            f"config.json asks for rope_type {kind!r}; make a GGUF file with `fewron convert` and use that"
        )
    scale = 1.0 / part["factor"] if kind == "linear" else 1.0
    return LayerConfig(part.get("rope_theta") or theta, scale)


def from_hf(keys: dict[str, Any]) -> ModelConfig:
    """Reads `config.json` of a Llama, Gemma 3 or Phi directory, of transformers 4 or 5."""
    family = keys.get("model_type")
    if family not in ("llama", "gemma3_text", "phi"):
        raise RecoverError(f"config.json has model_type {family!r}; recovery knows llama, gemma3_text, phi")
    gemma, phi = family == "gemma3_text", family == "phi"
    off = ["qk_layernorm", "use_bidirectional_attention", "attn_logit_softcapping", "final_logit_softcapping"]
    if wrong := [name for name in off if keys.get(name)]:
        raise RecoverError(f"config.json sets {wrong[0]}, which recovery does not know")
    hidden, heads, layers = keys["hidden_size"], keys["num_attention_heads"], keys["num_hidden_layers"]
    head_dim = keys.get("head_dim") or (256 if gemma else hidden // heads)
    rope = keys.get("rope_parameters") or {}
    if gemma:
        types = keys.get("layer_types") or []
        pattern = keys.get("sliding_window_pattern") or keys.get("_sliding_window_pattern") or 6
        types = types or ["full" if (i + 1) % pattern == 0 else "sliding" for i in range(layers)]
        everywhere = _rotation(keys, rope.get("full_attention"), keys.get("rope_theta") or 1e6)
        theta = rope.get("sliding_attention", {}).get("rope_theta") or keys.get("rope_local_base_freq") or 1e4
        local = LayerConfig(theta, window=keys["sliding_window"])
        by_layer = tuple(local if kind.startswith("sliding") else everywhere for kind in types)
    else:
        by_layer = (_rotation(keys, rope, keys.get("rope_theta") or 1e4),) * layers
    partial = rope.get("partial_rotary_factor") or keys.get("partial_rotary_factor") or (0.5 if phi else 1.0)
    activation = keys.get("hidden_activation") or keys.get("hidden_act") or "silu"
    known = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
    if activation not in known:
        raise RecoverError(f"config.json asks for the activation {activation!r}; recovery knows {', '.join(known)}")
    return ModelConfig(
        family=family,
        hidden=hidden,
        heads=heads,
        kv_heads=keys.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        rope_dim=int(head_dim * partial),
        rope_neighbours=False,
        intermediate=keys["intermediate_size"],
        vocab=keys["vocab_size"],
        layer_norm=phi,
        norm_eps=keys["layer_norm_eps" if phi else "rms_norm_eps"],
        parallel=phi,
        gated=not phi,
        activation=known[activation],
        embedding_scale=hidden**0.5 if gemma else 1.0,
        attention_scale=(keys.get("query_pre_attn_scalar", 256) if gemma else head_dim) ** -0.5,
        qk_norm=gemma,
        post_norm=gemma,
        layers=by_layer,
    )
