"""What can go from a graph, by the algebra of `ops.axes`, and taking it out: channels, heads, neurons and blocks."""
