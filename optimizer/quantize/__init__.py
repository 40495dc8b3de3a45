"""int8 quantization: groups, qparams, placement, rounding, correction, emission, verification."""
