"""The six tiny models: configuration, special tokens and the keys their published config.json have or lack."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fixtures" / "goldens"))
from hf_directory import share_mlp  # noqa: E402

VOCABULARY = 2048
CONTEXT = 512


def rope(theta: float = 10_000.0, **more: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta} | more


def phi(**common: Any) -> nn.Module:
    """As Phi-2: 4 heads of 40, two fifths of them rotated; MLP four times as wide as the model."""
    return PhiForCausalLM(
        PhiConfig(
            hidden_size=160,
            intermediate_size=640,
            num_hidden_layers=6,
            num_attention_heads=4,
            hidden_act="gelu_new",
            rope_parameters=rope(partial_rotary_factor=0.4),
            tie_word_embeddings=False,
            **common,
        )
    )


def llama(**common: Any) -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=160,
            intermediate_size=432,
            num_hidden_layers=7,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-5,
            rope_parameters=rope(),
            tie_word_embeddings=True,
            **common,
        )
    )


def mobillama(**common: Any) -> nn.Module:
    return share_mlp(
        LlamaForCausalLM(
            LlamaConfig(
                hidden_size=192,
                intermediate_size=1024,
                num_hidden_layers=8,
                num_attention_heads=6,
                num_key_value_heads=6,
                rms_norm_eps=1e-5,
                rope_parameters=rope(),
                tie_word_embeddings=False,
                **common,
            )
        )
    )


def qwen3(**common: Any) -> nn.Module:
    """6 heads of 32 over a hidden size of 144, as Qwen3-0.6B has more head width than hidden size."""
    return Qwen3ForCausalLM(
        Qwen3Config(
            hidden_size=144,
            intermediate_size=400,
            num_hidden_layers=7,
            num_attention_heads=6,
            num_key_value_heads=2,
            head_dim=32,
            rms_norm_eps=1e-6,
            rope_parameters=rope(1_000_000.0),
            tie_word_embeddings=True,
            **common,
        )
    )


def gemma3(**common: Any) -> nn.Module:
    """Every third layer is global, the others see a window of 64."""
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            hidden_size=144,
            intermediate_size=448,
            num_hidden_layers=7,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=40,
            query_pre_attn_scalar=40,
            sliding_window=64,
            layer_types=["full_attention" if layer % 3 == 2 else "sliding_attention" for layer in range(7)],
            rope_parameters={"full_attention": rope(1_000_000.0), "sliding_attention": rope()},
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
            **common,
        )
    )


def opt(**common: Any) -> nn.Module:
    return OPTForCausalLM(
        OPTConfig(
            hidden_size=160,
            word_embed_proj_dim=160,
            ffn_dim=640,
            num_hidden_layers=6,
            num_attention_heads=4,
            dropout=0.0,
            do_layer_norm_before=True,
            activation_function="relu",
            tie_word_embeddings=True,
            **common,
        )
    )


@dataclass(frozen=True)
class Special:
    """The first tokens of the vocabulary and the part that each plays."""

    tokens: tuple[str, ...]
    bos: int
    eos: int
    pad: int
    add_bos: bool


@dataclass(frozen=True)
class Family:
    title: str
    build: Callable[..., nn.Module]
    special: Special
    shared_mlp: bool = False
    changes: dict[str, Any] = field(default_factory=dict)  # to config.json; None: the published ones lack the key


SENTENCEPIECE = Special(("<unk>", "<s>", "</s>", "<pad>"), bos=1, eos=2, pad=3, add_bos=True)
GPT2 = Special(("<|endoftext|>", "<|unused1|>", "<|unused2|>", "<|unused3|>"), bos=0, eos=0, pad=0, add_bos=False)
QWEN = Special(("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unused3|>"), bos=0, eos=0, pad=0, add_bos=False)
GEMMA = Special(("<pad>", "<eos>", "<bos>", "<unk>"), bos=2, eos=1, pad=0, add_bos=True)
METASEQ = Special(("<s>", "<pad>", "</s>", "<unk>"), bos=2, eos=2, pad=1, add_bos=True)

FAMILIES: dict[str, Family] = {
    "phi": Family("Phi", phi, GPT2),
    "mobillama": Family(
        "MobiLlama",
        mobillama,
        SENTENCEPIECE,
        shared_mlp=True,
        changes={
            "architectures": ["LlamaForCausalLM"],
            "auto_map": {"AutoModelForCausalLM": "modelling_mobillama.LlamaForCausalLM"},
            "head_dim": None,
            "mlp_bias": None,
        },
    ),
    "llama": Family("Llama", llama, SENTENCEPIECE),
    "qwen3": Family("Qwen3", qwen3, QWEN, changes={"layer_types": None}),
    "gemma3": Family("Gemma 3", gemma3, GEMMA, changes={"_sliding_window_pattern": 3}),
    "opt": Family(
        "OPT",
        opt,
        METASEQ,
        changes={
            "_remove_final_layer_norm": None,
            "enable_bias": None,
            "layer_norm_elementwise_affine": None,
            "tie_word_embeddings": None,
        },
    ),
}


def build(family: Family) -> nn.Module:
    special = family.special
    return family.build(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        bos_token_id=special.bos,
        eos_token_id=special.eos,
        pad_token_id=special.pad,
    )
