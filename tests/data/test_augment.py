"""Augmentation: what it changes, what it leaves alone, and that it can be repeated."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from optimizer.data import augment
from optimizer.data.samples import in_memory
from optimizer.data.warp import Map
from optimizer.errors import ConfigError
from optimizer.model.ports import Array


def image(height: int = 8, width: int = 8, channels: int = 1) -> Array:
    return np.random.default_rng(0).random((1, channels, height, width)).astype(np.float32)


def applied(text: str, array: Array, seed: int = 0) -> Array:
    return augment.parse(text).apply({"x": array}, np.random.default_rng(seed))["x"]


def test_a_map_that_does_nothing_gives_the_image_back() -> None:
    picture = image()[0]
    assert np.allclose(Map().apply(picture), picture, atol=1e-6)


def test_mirroring_is_exact_and_its_own_inverse() -> None:
    picture = image(5, 8)[0]
    assert np.allclose(Map(mirror_x=True).apply(picture), picture[:, :, ::-1], atol=1e-6)
    assert np.allclose(Map(mirror_y=True).apply(picture), picture[:, ::-1], atol=1e-6)


def test_a_quarter_turn_is_exact() -> None:
    picture = image(7, 7)[0]
    assert np.allclose(Map(angle=90).apply(picture), np.rot90(picture, 1, (1, 2)), atol=1e-5)


def test_a_shift_by_whole_pixels_moves_them_and_repeats_the_border() -> None:
    picture = image(6, 10)[0]
    moved = Map(shift_x=0.2).apply(picture)
    assert np.allclose(moved[:, :, 2:], picture[:, :, :-2], atol=1e-6)
    assert np.allclose(moved[:, :, :2], picture[:, :, :1], atol=1e-6)


def test_zooming_in_spreads_the_middle() -> None:
    ramp = np.tile(np.arange(9, dtype=np.float32), (1, 9, 1))
    found = Map(zoom=2).apply(ramp)
    assert np.allclose(found[0, 0], 4 + (np.arange(9) - 4) / 2, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    ["flip", "flip=hv", "rotate=10", "shear", "scale=0.9:1.1", "shift", "crop=0.5", "brightness", "noise", "mask=0.5"],
)
def test_an_image_changes_but_not_its_shape_and_type(text: str) -> None:
    picture = image(16, 12, 3)
    changed = [applied(text, picture, seed) for seed in range(8)]
    assert all(found.shape == picture.shape and found.dtype == np.float32 for found in changed)
    assert any(not np.array_equal(found, picture) for found in changed)


def test_the_same_seed_gives_the_same_sample_and_another_seed_another() -> None:
    text = "rotate=10,noise=0.1"
    assert np.array_equal(applied(text, image(), 1), applied(text, image(), 1))
    assert not np.array_equal(applied(text, image(), 1), applied(text, image(), 2))


def test_channels_last_images_are_turned_as_channels_first_ones_are() -> None:
    picture = image(16, 16, 3)
    last = np.moveaxis(picture, 1, -1)
    assert np.allclose(np.moveaxis(applied("rotate=20", last), -1, 1), applied("rotate=20", picture), atol=1e-6)


def test_pixels_stay_pixels() -> None:
    pixels = (image(16, 16, 3) * 255).astype(np.uint8)
    found = applied("brightness=2,noise=0.5", pixels)
    assert found.dtype == np.uint8
    assert not np.array_equal(found, pixels)


def test_a_sequence_is_delayed_along_its_time() -> None:
    wave = np.arange(20, dtype=np.float32)[None]
    found = applied("shift=0.5:0.5", wave)
    assert np.array_equal(found[0, 10:], wave[0, :10])
    assert (found[0, :10] == 0).all()


def test_time_is_the_longer_axis_of_a_spectrogram() -> None:
    spectrum = np.random.default_rng(0).random((1, 4, 50)).astype(np.float32)
    found = applied("shift=0.1:0.1", spectrum)
    assert np.array_equal(found[:, :, 5:], spectrum[:, :, :-5])


def test_masking_sets_a_span_to_the_mean() -> None:
    wave = np.random.default_rng(0).random((1, 100)).astype(np.float32)
    found = applied("mask=0.2:0.2", wave)
    assert int((found != wave).sum()) == 20
    assert np.allclose(found[found != wave], wave.mean())


def test_tokens_are_replaced_by_tokens_of_the_sample_and_padding_stays() -> None:
    tokens = np.array([[101, 7, 8, 9, 10, 102, 0, 0]] * 50)
    found = applied("tokens=0.5", tokens)
    assert set(np.unique(found)) <= {0, 7, 8, 9, 10, 101, 102}
    assert (found[:, 6:] == 0).all()
    assert 0.2 < float((found[:, :6] != tokens[:, :6]).mean()) < 0.6


def test_tokens_can_be_replaced_by_one_id() -> None:
    tokens = np.array([[101, 7, 8, 9, 10, 102, 0, 0]])
    found = applied("tokens=1:103", tokens)
    assert found.tolist() == [[103] * 6 + [0, 0]]


def test_a_mask_of_ones_and_zeros_is_left_alone() -> None:
    flags = np.array([[1, 1, 1, 0]])
    assert np.array_equal(applied("tokens=1", flags), flags)


def test_mix_up_blends_rows_by_the_weights_it_reports() -> None:
    rows = np.random.default_rng(0).random((6, 1, 4, 4)).astype(np.float32)
    mixed, partners, own = augment.parse("mixup=1").blend({"x": rows}, np.random.default_rng(3))
    weight = own.reshape(-1, 1, 1, 1)
    assert np.allclose(mixed["x"], rows * weight + rows[partners] * (1 - weight), atol=1e-6)
    assert (own >= 0.5).all()


def test_fifty_samples_become_five_hundred_with_their_labels() -> None:
    pictures = np.random.default_rng(0).random((50, 1, 1, 8, 8)).astype(np.float32)
    samples = in_memory([{"x": picture} for picture in pictures], np.arange(50))
    more = augment.augmented(samples, "flip,rotate=10", 10, seed=4)
    assert len(more) == 500
    assert np.array_equal(more[3]["x"], pictures[3])
    assert not np.array_equal(more[53]["x"], pictures[3])
    assert np.array_equal(more[53]["x"], augment.augmented(samples, "flip,rotate=10", 10, seed=4)[53]["x"])
    assert more.labels is not None
    assert more.labels[53] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spin=3", "spin"),
        ("rotate=fast", "rotate=fast"),
        ("scale=0", "scale=0"),
        ("crop=1.5", "crop=1.5"),
        ("scale=1.1:0.9", "scale=1.1:0.9"),
        ("flip=x", "flip=x"),
        ("tokens=2", "tokens=2"),
        ("noise=nan", "noise=nan"),
        (",", "names nothing"),
    ],
)
def test_a_wrong_specification_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        augment.parse(text)


def test_an_augmentation_that_suits_no_input_is_refused() -> None:
    samples = in_memory([{"ids": np.array([[5, 6, 7]])}])
    with pytest.raises(ConfigError, match="rotate"):
        augment.augmented(samples, "rotate=10", 2, seed=0)


def test_auto_takes_what_suits_the_inputs_where_samples_are_few() -> None:
    pictures = in_memory([{"x": image()}] * 3)
    found = augment.choose("auto", pictures)
    assert found is not None
    assert {"rotate", "mixup"} <= set(found.strengths)
    assert augment.choose("none", pictures) is None
    assert augment.choose("auto", in_memory([{"n": np.array([3.0])}])) is None
    assert augment.choose("auto", in_memory([{"x": image()}] * (augment.FEW + 1))) is None


def test_cut_mix_puts_a_rectangle_of_the_partner_in() -> None:
    rows = np.stack([np.full((1, 8, 8), value, np.float32) for value in range(1, 7)])
    mixed, partners, own = augment.parse("cutmix=1").blend({"x": rows}, np.random.default_rng(0))
    for row, (image, partner, share) in enumerate(zip(mixed["x"], partners, own, strict=True)):
        assert set(np.unique(image)) <= {row + 1.0, partner + 1.0}
        if partner != row:
            assert (image == row + 1).mean() == pytest.approx(share, abs=0.25)
    assert len(np.unique(mixed["x"][own < 0.8])) > 1


def test_cut_mix_of_sequences_takes_a_span_of_time() -> None:
    rows = np.stack([np.full((12, 3), value, np.float32) for value in range(1, 7)])
    mixed, partners, _ = augment.parse("cutmix=1").blend({"x": rows}, np.random.default_rng(0))
    for row, (sequence, partner) in enumerate(zip(mixed["x"], partners, strict=True)):
        assert (sequence == sequence[:, :1]).all()
        assert set(np.unique(sequence)) <= {row + 1.0, partner + 1.0}


def test_colour_changes_each_channel_by_itself() -> None:
    array = image(channels=3)
    changed = applied("colour=0.5", array)
    slopes = [np.polyfit(before.ravel(), after.ravel(), 1) for before, after in zip(array[0], changed[0], strict=True)]
    fitted = [np.polyval(slope, before) for slope, before in zip(slopes, array[0], strict=True)]
    assert np.allclose(fitted, changed[0], atol=1e-4)
    assert len({round(float(slope[0]), 3) for slope in slopes}) == 3


def test_a_map_without_a_turn_is_the_general_one() -> None:
    array = image(9, 12)[0]
    straight = Map(zoom=1.3, shift_x=0.1, shift_y=-0.2, mirror_x=True)
    assert np.allclose(straight.apply(array), dataclasses.replace(straight, shear=1e-9).apply(array), atol=1e-4)
