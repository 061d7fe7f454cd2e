"""Cuts and scores as the engine has them."""

import torch

from fewron_recover.mask import LayerMask, LowRank, keep_best, kept, neuron_scores, quantile_of_sample
from fewron_recover.model import Weights, block, dense_weights, forward, rope_table
from fewron_recover.source import BaseModel
from tests.conftest import HIDDEN, NEURONS


def kept_indices(scores: list[float], count: int) -> list[int]:
    return keep_best(torch.tensor(scores), count)[0].nonzero().squeeze(-1).tolist()


def test_ties_go_to_the_lower_index() -> None:
    """The engine's own test (fewron-sparsity, `selection.rs`)."""
    assert kept_indices([1.0, 3.0, 2.0, 3.0, -1.0], 3) == [1, 2, 3]
    assert kept_indices([2.0, 2.0, 2.0], 2) == [0, 1]
    assert kept_indices([0.0, 1.0, 0.0, 1.0, 0.0], 3) == [0, 1, 3]


def test_a_threshold_keeps_what_equals_it() -> None:
    mask = LayerMask("gate", above=torch.tensor(2.0))
    assert kept(mask, torch.tensor([1.0, 2.0, 3.0])).tolist() == [0, 1, 1]


def test_best_of_none_and_all() -> None:
    scores = torch.rand(2, 4)
    assert kept(LayerMask("gate", best=0), scores).sum() == 0
    assert kept(LayerMask("gate", best=4), scores).sum() == 8


def test_scores_depend_on_the_sign_of_the_gate() -> None:
    mask = LayerMask("gate", weights=torch.tensor([2.0, 2, 2]), negative=torch.tensor([3.0, 3, 3]))
    act = torch.tensor([1.0, -1.0, 0.0])
    assert neuron_scores(mask, act, act, act).tolist() == [2, 3, 0]
    plain = LayerMask("magnitude")
    assert neuron_scores(plain, act, 2 * act, act).tolist() == [2, 2, 0]


def test_a_surrogate_gradient_pulls_scores_over_the_cut() -> None:
    mask = LayerMask("gate", above=torch.tensor(1.0), temperature=0.1)
    scores = torch.tensor([0.95, 1.05, 3.0], requires_grad=True)
    keep = kept(mask, scores)
    assert keep.tolist() == [0, 1, 1]
    keep.sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad[0] > 1
    assert scores.grad[2] < 1e-3


def test_quantiles_are_of_the_late_tokens() -> None:
    scores = torch.zeros(2, 8, 100)
    scores[:, 4:] = torch.arange(100.0)
    assert float(quantile_of_sample(scores, torch.tensor(0.8))) == 80


def run_block(model: BaseModel, weights: Weights, mask: LayerMask | None, masked: torch.Tensor) -> torch.Tensor:
    x = torch.randn(2, 6, HIDDEN, generator=torch.Generator().manual_seed(5))
    table = rope_table(model.config, model.config.layers[0], torch.arange(6), None)
    return block(model.config, weights.layers[0], x, table, None, mask, masked)[0]


def test_skip_equals_zero(tiny_model: BaseModel) -> None:
    """Neurons that are off have no effect: the same as their columns of down being zero, and a compensation added."""
    weights = dense_weights(tiny_model)
    everything = torch.ones(2, 6, dtype=torch.bool)
    norms = torch.zeros(NEURONS)
    norms[::2] = 1e9
    bias = torch.full((HIDDEN,), 0.5)
    addition = LowRank(torch.zeros(1, HIDDEN), torch.zeros(HIDDEN, 1), bias)
    mask = LayerMask("gate", best=NEURONS - 1, weights=norms, compensation=addition)
    mask = LayerMask("gate", above=torch.tensor(1.0), weights=norms, compensation=addition)
    found = run_block(tiny_model, weights, mask, everything)
    layer = dict(weights.layers[0])
    layer["down"] = layer["down"].clone()
    layer["down"][:, 1::2] = 0
    expected = run_block(tiny_model, Weights([layer], weights.outer), None, everything) + bias
    torch.testing.assert_close(found, expected)


def test_tokens_that_are_not_masked_are_dense(tiny_model: BaseModel) -> None:
    weights = dense_weights(tiny_model)
    mask = LayerMask("magnitude", best=5, down_above=torch.tensor(1.0), down_norms=torch.ones(NEURONS))
    heads = torch.tensor([True, False, True, True])
    mask = LayerMask(**(vars(mask) | {"heads": heads}))
    masked = torch.zeros(2, 6, dtype=torch.bool)
    masked[0, 3:] = True
    found, dense = run_block(tiny_model, weights, mask, masked), run_block(tiny_model, weights, None, masked)
    torch.testing.assert_close(found[~masked], dense[~masked])
    assert (found[masked] - dense[masked]).abs().min(dim=-1).values.max() > 0
    tokens = torch.randint(0, 80, (2, 6))
    passed = forward(tiny_model.config, weights, tokens, [mask, mask], masked)
    assert torch.isfinite(passed.states).all()
