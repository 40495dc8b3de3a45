"""Rows of RNN, GRU and LSTM as a loop over time in torch ops (ONNX operator specification, RNN/GRU/LSTM).

Shapes: X [T, B, I], W [D, G*H, I], R [D, G*H, H], B [D, 2*G*H], states [D, B, H] with D directions and G gates (LSTM
`iofc`, GRU `zrh`, RNN one). With `layout` = 1 the batch comes first everywhere.

Cases: forward, reverse and both; `sequence_lens` (a state stands still outside its sequence and the output is zero
there, which for the reverse direction is the same as starting at the last element); `clip` before every activation;
other activations with alpha and beta; peepholes; `input_forget`; both forms of `linear_before_reset`.
"""

from __future__ import annotations

from collections.abc import Callable

from optimizer.train.table import Call, Row, Tensor

Activation = Callable[[Tensor], Tensor]

DEFAULTS = {"LeakyRelu": (0.01, 0.0), "ThresholdedRelu": (1.0, 0.0), "Elu": (1.0, 0.0), "HardSigmoid": (0.2, 0.5)}
"""alpha and beta where the node gives none."""
TAKES_ALPHA = {"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"}
TAKES_BETA = {"Affine", "ScaledTanh", "HardSigmoid"}


def _activation(at: Call, name: str, a: float, b: float) -> Activation:
    torch, functional = at.torch, at.functional
    found: dict[str, Activation] = {
        "Sigmoid": torch.sigmoid,
        "Tanh": torch.tanh,
        "Relu": torch.relu,
        "Softsign": functional.softsign,
        "Softplus": functional.softplus,
        "Affine": lambda x: a * x + b,
        "LeakyRelu": lambda x: functional.leaky_relu(x, a),
        "ThresholdedRelu": lambda x: torch.where(x > a, x, 0.0),
        "ScaledTanh": lambda x: a * torch.tanh(b * x),
        "HardSigmoid": lambda x: (a * x + b).clamp(0, 1),
        "Elu": lambda x: functional.elu(x, a),
    }
    if name not in found:
        raise at.refuse(f"its activation {name!r} is not known")
    return _clipped(found[name], at.real("clip", 0.0))


def _clipped(function: Activation, bound: float) -> Activation:
    return (lambda x: function(x.clamp(-bound, bound))) if bound else function


def activations(at: Call, defaults: tuple[str, ...], directions: int) -> list[list[Activation]]:
    """The activations of each direction. alpha and beta are handed out in order to those that take them."""
    names = {name.lower(): name for name in (*TAKES_ALPHA, "Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")}
    given = [names.get(name.lower(), name) for name in at.texts("activations")] or list(defaults) * directions
    alphas, betas = iter(at.reals("activation_alpha")), iter(at.reals("activation_beta"))
    found = []
    for name in given:
        a, b = DEFAULTS.get(name, (1.0, 1.0 if name == "ScaledTanh" else 0.0))
        a = next(alphas, a) if name in TAKES_ALPHA else a
        b = next(betas, b) if name in TAKES_BETA else b
        found.append(_activation(at, name, a, b))
    each = len(defaults)
    return [found[each * d : each * (d + 1)] for d in range(directions)]


def lstm_cell(at: Call, fs: list[Activation], r: Tensor, b: Tensor, p: Tensor) -> Callable[..., tuple[Tensor, ...]]:
    f, g, h = fs
    pi, po, pf = (0.0, 0.0, 0.0) if p is None else p.chunk(3)

    def step(projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, cell = state
        i, o, forget, c = (projected + b + hidden @ r.T).chunk(4, -1)
        i = f(i + pi * cell)
        forget = 1 - i if at.flag("input_forget") else f(forget + pf * cell)
        cell = forget * cell + i * g(c)
        return f(o + po * cell) * h(cell), cell

    return step


def gru_cell(at: Call, fs: list[Activation], r: Tensor, b: Tensor, p: Tensor) -> Callable[..., tuple[Tensor, ...]]:
    f, g = fs
    r_zr, r_h = r[: 2 * r.shape[1]], r[2 * r.shape[1] :]
    outer, (b_zr, b_h) = at.flag("linear_before_reset"), b

    def step(projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (hidden,) = state
        width = hidden.shape[-1]
        z, reset = f(projected[..., : 2 * width] + b_zr + hidden @ r_zr.T).chunk(2, -1)
        inner = reset * (hidden @ r_h.T + b_h) if outer else (reset * hidden) @ r_h.T + b_h
        return ((1 - z) * g(projected[..., 2 * width :] + inner) + z * hidden,)

    return step


def rnn_cell(at: Call, fs: list[Activation], r: Tensor, b: Tensor, p: Tensor) -> Callable[..., tuple[Tensor, ...]]:
    def step(projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (fs[0](projected + b + state[0] @ r.T),)

    return step


def _scan(at: Call, x: Tensor, live: Tensor, state: tuple[Tensor, ...], step: Callable[..., tuple[Tensor, ...]],
          backwards: bool) -> tuple[Tensor, tuple[Tensor, ...]]:  # fmt: skip
    """Hidden states [T, B, H] and the last state. `live` [T, B, 1] is False outside a sequence, None if nowhere.

    The input is cut at once: the gradient of every x[t] by itself would be as large as x.
    """
    found: list[Tensor] = [None] * x.shape[0]
    moments = x.unbind(0)
    for t in reversed(range(len(moments))) if backwards else range(len(moments)):
        after = step(moments[t], state)
        if live is not None:
            after = tuple(at.torch.where(live[t], new, old) for new, old in zip(after, state, strict=True))
        state = after
        found[t] = state[0] if live is None else state[0] * live[t]
    stacked = at.torch.stack(found) if found else x.new_zeros(0, *state[0].shape)
    return stacked, state


def _split_bias(bias: Tensor, gates: int, hidden: int, gru: bool) -> tuple[Tensor, Tensor]:
    """What is added to the input projection, and what inside the cell (GRU may reset its hidden bias)."""
    w, r = bias[: gates * hidden], bias[gates * hidden :]
    if not gru:
        return w * 0, w + r
    return w, (r[: 2 * hidden], r[2 * hidden :])


def _recurrent(gates: int, defaults: tuple[str, ...], cell: Callable[..., Callable[..., tuple[Tensor, ...]]],
               states: int) -> Callable[..., tuple[Tensor, ...]]:  # fmt: skip
    def compute(at: Call, x: Tensor, w: Tensor, r: Tensor, bias: Tensor = None, lengths: Tensor = None,
                h0: Tensor = None, c0: Tensor = None, p: Tensor = None) -> tuple[Tensor, ...]:  # fmt: skip
        first = at.flag("layout")
        x = x.transpose(0, 1) if first else x
        directions, hidden = r.shape[0], r.shape[2]
        bias = w.new_zeros(directions, 2 * gates * hidden) if bias is None else bias
        starts = [_start(x, given, directions, hidden, first) for given in (h0, c0)[:states]]
        live = None
        if lengths is not None:
            live = (at.torch.arange(x.shape[0]).reshape(-1, 1) < lengths).unsqueeze(-1)
        functions, ys, ends = activations(at, defaults, directions), [], []
        for d in range(directions):
            outside, inside = _split_bias(bias[d], gates, hidden, gru=states == 1 and gates == 3)
            step = cell(at, functions[d], r[d], inside, None if p is None else p[d])
            backwards = d == 1 or at.text("direction", "forward") == "reverse"
            y, end = _scan(at, x @ w[d].T + outside, live, tuple(start[d] for start in starts), step, backwards)
            ys.append(y)
            ends.append(end)
        outputs = (at.torch.stack(ys, 1), *(at.torch.stack(last) for last in zip(*ends, strict=True)))
        if not first:
            return outputs
        return (outputs[0].permute(2, 0, 1, 3), *(last.transpose(0, 1) for last in outputs[1:]))

    return compute


def _start(x: Tensor, given: Tensor, directions: int, hidden: int, first: bool) -> Tensor:
    if given is None:
        return x.new_zeros(directions, x.shape[1], hidden)
    return given.transpose(0, 1) if first else given


lstm = _recurrent(4, ("Sigmoid", "Tanh", "Tanh"), lstm_cell, 2)

ROWS = {
    "LSTM": Row(lstm, weights=(1, 2, 3, 7)),
    "GRU": Row(_recurrent(3, ("Sigmoid", "Tanh"), gru_cell, 1), weights=(1, 2, 3)),
    "RNN": Row(_recurrent(1, ("Tanh",), rnn_cell, 1), weights=(1, 2, 3)),
}
