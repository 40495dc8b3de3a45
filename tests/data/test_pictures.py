"""Synthetic images: noise, textures and smooth ones in turn, bounded, whatever the layout."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.data import pictures


@pytest.mark.parametrize("shape", [(1, 3, 64, 48), (2, 32, 40, 1), (1, 1, 28, 28)])
@pytest.mark.parametrize("turn", [0, 1, 2])
def test_an_image_has_its_shape_and_ends_somewhere(shape: tuple[int, ...], turn: int) -> None:
    assert pictures.is_picture(shape)
    found = pictures.draw(np.random.default_rng(0), shape, turn)
    assert found.shape == shape
    assert np.abs(found).max() <= 2.5
    assert 0.1 < found.std() < 2


@pytest.mark.parametrize("shape", [(1, 64, 64, 64), (1, 3, 8, 8), (1, 3, 64), (3, 64)])
def test_other_tensors_are_no_images(shape: tuple[int, ...]) -> None:
    assert not pictures.is_picture(shape)


def test_a_blur_takes_less_from_a_texture_than_from_noise() -> None:
    def kept(turn: int) -> float:
        image = pictures.draw(np.random.default_rng(1), (1, 3, 64, 64), turn)[0, 0]
        blurred = image.reshape(16, 4, 16, 4).mean((1, 3))
        return float(blurred.std() / image.std())

    assert kept(0) < 0.35 < 0.5 < kept(1) < kept(2)
