"""The optimizers against torch's own."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.train.descent import Descent  # noqa: E402


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_the_steps_are_those_of_torch(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, generator=generator)
    # Of size 1 a share is what torch takes the rate for.
    own = (start / start.square().mean().sqrt()).requires_grad_()
    other = own.detach().clone().requires_grad_()
    decay = 0.1 if kind == "adamw" else 0.0
    descent = Descent(torch, kind, {"w": own}, {"w"}, decay)
    if kind == "adamw":
        reference = torch.optim.AdamW([other], lr=0.05, weight_decay=decay)
    else:
        reference = torch.optim.SGD([other], lr=0.05, momentum=0.9, nesterov=True)
    for _ in range(20):
        for tensor in (own, other):
            tensor.grad = None
            (tensor.square() + tensor.sin()).sum().backward()
        descent.clip(2.0)
        torch.nn.utils.clip_grad_norm_([other], 2.0)
        descent.move(0.05)
        reference.step()
    assert torch.allclose(own, other, atol=1e-5)


def test_filters_of_all_sizes_learn_alike() -> None:
    start = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    start /= start.square().mean((1, 2, 3), keepdim=True).sqrt()
    scales = torch.tensor([1e-2, 1.0, 30.0, 1e3]).reshape(4, 1, 1, 1)
    even, uneven = start.clone().requires_grad_(), (start * scales).requires_grad_()
    descents = [Descent(torch, "adamw", {"w": tensor}, {"w"}, 0.1) for tensor in (even, uneven)]
    for _ in range(20):
        for descent, values in zip(descents, (even, uneven / scales), strict=True):
            descent.clear()
            (values.square() + values.sin()).sum().backward()
            descent.move(0.05)
    assert not torch.allclose(even, start, atol=0.1)
    assert torch.allclose(even, uneven / scales, rtol=1e-3, atol=1e-4)


def test_the_state_goes_on_where_it_was() -> None:
    tensors = [torch.ones(3).requires_grad_() for _ in range(2)]
    whole, halves = (Descent(torch, "adamw", {"w": tensor}, set(), 0.0) for tensor in tensors)
    for step in range(10):
        if step == 5:
            state = halves.state()
            halves = Descent(torch, "adamw", {"w": tensors[1]}, set(), 0.0)
            halves.load(state)
        for tensor, descent in zip(tensors, (whole, halves), strict=True):
            descent.clear()
            tensor.pow(3).sum().backward()
            descent.move(0.1)
    assert torch.equal(tensors[0], tensors[1])
