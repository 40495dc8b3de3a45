"""Rows of control flow and of sequences. Conditions and trip counts are concrete at run time, so they are just obeyed.

A Loop or Scan is unrolled; gradients pass through the iterations that really ran. A sequence is a Python list.
"""

from __future__ import annotations

from optimizer.train.table import Call, Row, Tensor, numbers


def if_(at: Call, condition: Tensor) -> tuple[Tensor, ...]:
    branch = "then_branch" if bool(condition) else "else_branch"
    return tuple(at.subgraph(at.graph(branch), []))


def loop(at: Call, trips: Tensor = None, condition: Tensor = None, *state: Tensor) -> tuple[Tensor, ...]:
    body, carried = at.graph("body"), list(state)
    limit = None if trips is None else int(trips)
    going, done = condition is None or bool(condition), 0
    scans: list[list[Tensor]] = [[] for _ in body.outputs[1 + len(state) :]]
    while going and (limit is None or done < limit):
        keep, *found = at.subgraph(body, [at.torch.tensor(done), at.torch.tensor(True), *carried])
        carried, going, done = found[: len(state)], bool(keep), done + 1
        for scan, value in zip(scans, found[len(state) :], strict=True):
            scan.append(value)
    return (*carried, *(at.torch.stack(scan) if scan else at.torch.zeros(0) for scan in scans))


def scan(at: Call, *inputs: Tensor) -> tuple[Tensor, ...]:
    body, count = at.graph("body"), at.integer("num_scan_inputs", 1)
    carried, scanned = list(inputs[:-count]), inputs[-count:]
    in_axes, out_count = at.integers("scan_input_axes") or [0] * count, len(body.outputs) - len(carried)
    backwards = at.integers("scan_input_directions") or [0] * count
    rows = [
        list((x.flip(axis) if back else x).unbind(axis))
        for x, axis, back in zip(scanned, in_axes, backwards, strict=True)
    ]
    columns: list[list[Tensor]] = [[] for _ in range(out_count)]
    for parts in zip(*rows, strict=True):
        found = at.subgraph(body, [*carried, *parts])
        carried = found[: len(carried)]
        for column, value in zip(columns, found[len(carried) :], strict=True):
            column.append(value)
    out_axes, reverse = at.integers("scan_output_axes") or [0] * out_count, at.integers("scan_output_directions")
    flips = reverse or [0] * out_count
    return (
        *carried,
        *(
            at.torch.stack(column[::-1] if flip else column, axis)
            for column, axis, flip in zip(columns, out_axes, flips, strict=True)
        ),
    )


def sequence_empty(at: Call) -> tuple[list[Tensor]]:
    return ([],)


def sequence_construct(at: Call, *inputs: Tensor) -> tuple[list[Tensor]]:
    return (list(inputs),)


def sequence_insert(at: Call, sequence: list[Tensor], value: Tensor, place: Tensor = None) -> tuple[list[Tensor]]:
    at_end = len(sequence) if place is None else int(place)
    at_end = at_end + len(sequence) if at_end < 0 else at_end
    return ([*sequence[:at_end], value, *sequence[at_end:]],)


def sequence_erase(at: Call, sequence: list[Tensor], place: Tensor = None) -> tuple[list[Tensor]]:
    gone = (-1 if place is None else int(place)) % len(sequence)
    return ([*sequence[:gone], *sequence[gone + 1 :]],)


def sequence_at(at: Call, sequence: list[Tensor], place: Tensor) -> Tensor:
    return sequence[int(place)]


def sequence_length(at: Call, sequence: list[Tensor]) -> Tensor:
    return at.torch.tensor(len(sequence))


def concat_from_sequence(at: Call, sequence: list[Tensor]) -> Tensor:
    join = at.torch.stack if at.flag("new_axis") else at.torch.cat
    return join(sequence, dim=at.integer("axis", 0))


def split_to_sequence(at: Call, x: Tensor, sizes: Tensor = None) -> tuple[list[Tensor]]:
    axis = at.integer("axis", 0)
    if sizes is not None:
        return (list(at.torch.split(x, numbers(sizes) if sizes.ndim else int(sizes), dim=axis)),)
    parts = at.torch.split(x, 1, dim=axis)
    return (list(parts) if at.flag("keepdims", True) else [part.squeeze(axis) for part in parts],)


ROWS = {
    "If": Row(if_),
    "Loop": Row(loop),
    "Scan": Row(scan),
    "SequenceEmpty": Row(sequence_empty, smooth=False),
    "SequenceConstruct": Row(sequence_construct),
    "SequenceInsert": Row(sequence_insert),
    "SequenceErase": Row(sequence_erase),
    "SequenceAt": Row(sequence_at),
    "SequenceLength": Row(sequence_length, smooth=False),
    "ConcatFromSequence": Row(concat_from_sequence),
    "SplitToSequence": Row(split_to_sequence),
}
