"""The CPU's dropout against what PyTorch's dropout promises."""

from __future__ import annotations

import pytest
import torch

from homing.encoders.dropout import Bits, CpuDropout


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_drops_the_share_and_keeps_the_mean(p: float) -> None:
    dropout = CpuDropout(p, Bits())
    x = torch.ones(1000, 301)
    found = dropout(x)
    assert (found == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert found.mean().item() == pytest.approx(1.0, abs=0.02)
    assert found[found != 0].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-4)
    by_row = (found == 0).float().mean(dim=1)  # no row and no column is special
    by_column = (found == 0).float().mean(dim=0)
    assert by_row.std().item() == pytest.approx((p * (1 - p) / 301) ** 0.5, rel=0.15)
    assert by_column.std().item() == pytest.approx((p * (1 - p) / 1000) ** 0.5, rel=0.2)


def test_gradients_go_through_what_was_kept() -> None:
    x = torch.ones(64, 33, requires_grad=True)
    found = CpuDropout(0.3, Bits())(x)
    found.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, found.detach())


def test_is_nothing_in_evaluation_and_repeats_by_seed() -> None:
    bits = Bits()
    dropout = CpuDropout(0.3, bits)
    x = torch.ones(64, 33)
    bits.seed(7)
    one, other = dropout(x), dropout(x)
    bits.seed(7)
    assert torch.equal(dropout(x), one)
    assert not torch.equal(one, other)
    assert dropout.eval()(x) is x
    assert CpuDropout(0.0, bits)(x) is x
