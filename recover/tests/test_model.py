"""The forward pass against transformers, family by family, and decoding against the whole text."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from fewron_recover.generate import Writer
from fewron_recover.model import dense_weights, forward, logits
from fewron_recover.source import BaseModel, open_model
from tests.conftest import VOCAB

SIZES: dict[str, Any] = {"vocab_size": 90, "hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 3}
SIZES |= {"num_attention_heads": 4, "max_position_embeddings": 128, "pad_token_id": 0}


def llama() -> Any:
    rope = {"rope_type": "default", "rope_theta": 5000.0}
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SIZES, num_key_value_heads=2, rope_parameters=rope, tie_word_embeddings=False)
    )


def gemma3() -> Any:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = transformers.Gemma3TextConfig(
        **SIZES,
        num_key_value_heads=1,
        head_dim=20,
        query_pre_attn_scalar=24,
        sliding_window=7,
        layer_types=kinds,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    )
    return transformers.Gemma3ForCausalLM(config)


def phi() -> Any:
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    return transformers.PhiForCausalLM(transformers.PhiConfig(**SIZES, rope_parameters=rope))


@pytest.mark.parametrize("family", [llama, gemma3, phi])
def test_equals_transformers(family: Any, tmp_path: Path) -> None:
    torch.manual_seed(4)
    reference = family().eval()
    for name, value in reference.named_parameters():
        # Norms and biases begin as ones and zeros, which would hide mistakes.
        torch.nn.init.normal_(value, 1.0 if "norm" in name and "gemma" not in str(family) else 0.0, 0.2)
    reference.save_pretrained(tmp_path)
    model = open_model(tmp_path)
    tokens = torch.randint(0, SIZES["vocab_size"], (2, 21))
    weights = dense_weights(model)
    with torch.no_grad():
        expected = reference(tokens).logits
        found = logits(weights, forward(model.config, weights, tokens).states)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-4)


def test_decoding_is_the_forward_pass(tiny_model: BaseModel) -> None:
    weights = dense_weights(tiny_model)
    writer = Writer(tiny_model, weights, 3, 12, torch.float32)
    writer.temperature.fill_(1e-4)
    tokens = torch.randint(0, VOCAB, (3, 12), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        expected = logits(weights, forward(tiny_model.config, weights, tokens).states).argmax(-1)
    for place in range(12):
        writer.token.copy_(tokens[:, place : place + 1])
        writer.position.fill_(place)
        writer.step()
        assert torch.equal(writer.drawn, expected[:, place])
