"""Folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.data.spec import open_samples
from optimizer.errors import ConfigError, DataError
from optimizer.recipe import Preprocess
from tests import builders

Image = pytest.importorskip("PIL.Image")

PLAIN = Preprocess(crop=1.0, scale=1.0, mean=(0.0,), std=(1.0,))


def model(shape: str, dtype: str = "float") -> ir.Model:
    return builders.model(f"g ({dtype}[{shape}] x) => ({dtype}[{shape}] y) {{ y = Identity(x) }}")


def picture(path: Path, height: int, width: int, color: tuple[int, int, int] = (200, 100, 50)) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (width, height), color).save(path)


def test_an_image_is_scaled_cut_normalized_and_laid_out(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 60, 90)
    (feed,) = open_samples(tmp_path, model("N,3,32,32"))
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    want = (np.array((200, 100, 50)) / 255 - mean) / std
    assert feed["x"].shape == (1, 3, 32, 32) and feed["x"].dtype == np.float32
    np.testing.assert_allclose(feed["x"][0, :, 5, 7], want, rtol=1e-5)


def test_the_centre_is_what_a_crop_keeps(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (50, 1, 3))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    (feed,) = open_samples(tmp_path, model("N,3,50,50"), images=PLAIN)
    np.testing.assert_array_equal(feed["x"][0, 0, 0], np.arange(25, 75))


def test_channels_last_bgr_and_open_sizes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 10, 10)
    how = Preprocess(crop=1.0, scale=1.0, mean=(0.0,), std=(1.0,), order="bgr", size=(8, 12), fit="stretch")
    (feed,) = open_samples(tmp_path, model("N,H,W,3"), images=how)
    assert feed["x"].shape == (1, 8, 12, 3) and feed["x"][0, 3, 3].tolist() == [50, 100, 200]
    assert open_samples(tmp_path, model("N,3,H,W"))[0]["x"].shape == (1, 3, 224, 224)


def test_pad_keeps_the_aspect_and_fills_with_zeros(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 10, 20)
    how = Preprocess(fit="pad", scale=1.0, mean=(0.0,), std=(1.0,))
    (feed,) = open_samples(tmp_path, model("N,3,16,16"), images=how)
    assert (feed["x"][0, 0, :8] == 200).all() and (feed["x"][0, :, 8:] == 0).all()


def test_gray_for_one_channel_and_pixels_for_uint8(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 8, 8, (90, 90, 90))
    assert open_samples(tmp_path, model("N,1,8,8"), images=PLAIN)[0]["x"].ravel().tolist() == [90.0] * 64
    feed = open_samples(tmp_path, model("N,3,8,8", "uint8"))[0]
    assert feed["x"].dtype == np.uint8 and (feed["x"] == 90).all()


def test_a_coded_input_gets_the_code_of_the_normalized_image(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 8, 8, (90, 90, 90))
    coded = model("N,3,8,8", "uint8")
    coded.metadata_props["optimize.input.x"] = '{"scale": 2.0, "zero_point": 3, "dtype": "uint8"}'
    assert (open_samples(tmp_path, coded, images=PLAIN)[0]["x"] == 48).all()


def test_the_exif_orientation_is_obeyed(tmp_path: Path) -> None:
    image = Image.fromarray(np.repeat(np.uint8([[[250], [10]]]), 3, axis=2))
    exif = Image.Exif()
    exif[0x0112] = 3
    image.save(tmp_path / "a.png", exif=exif)
    (feed,) = open_samples(tmp_path, model("N,3,1,2"), images=Preprocess(fit="stretch", **_plain()))
    assert feed["x"][0, 0, 0].tolist() == [10, 250]


def _plain() -> dict[str, Any]:
    return {"scale": 1.0, "mean": (0.0,), "std": (1.0,)}


def test_class_folders_are_labels_in_the_order_people_count(tmp_path: Path) -> None:
    for name in ("cat", "ant", "bee"):
        for index in range(2):
            picture(tmp_path / name / f"{index}.png", 4, 4)
    labels = open_samples(tmp_path, model("N,3,4,4")).labels
    assert labels is not None and labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_class_folders_that_are_numbers_are_the_labels(tmp_path: Path) -> None:
    for name in ("7", "281", "30"):
        picture(tmp_path / name / "a.png", 4, 4)
    labels = open_samples(tmp_path, model("N,3,4,4")).labels
    assert labels is not None and labels.tolist() == [7, 30, 281]


def test_a_fixed_batch_takes_that_many_images(tmp_path: Path) -> None:
    for index in range(5):
        picture(tmp_path / "0" / f"{index}.png", 4, 4)
    samples = open_samples(tmp_path, model("2,3,4,4"))
    assert [feed["x"].shape[0] for feed in samples] == [2, 2] and samples.labels is not None
    assert samples.labels.shape == (2, 2)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 4, 4)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8 nothing")
    with pytest.raises(DataError, match=r"b\.jpg: not a readable image"):
        list(open_samples(tmp_path, model("N,3,4,4")))


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 100_000
    with pytest.raises(DataError, match=r"a\.png: not a readable image: Image size"):
        list(open_samples(tmp_path, model("N,3,4,4")))


@pytest.mark.parametrize("shape", ["N,16", "N,5,8,8"])
def test_images_need_an_input_that_takes_images(tmp_path: Path, shape: str) -> None:
    picture(tmp_path / "a.png", 4, 4)
    with pytest.raises(DataError, match=r"use \.npz"):
        open_samples(tmp_path, model(shape))


@pytest.mark.parametrize(
    "wrong", [{"crop": 0.0}, {"fit": "squeeze"}, {"order": "gbr"}, {"std": (0.0,)}, {"size": (0, 4)}, {"layout": "hwc"}]
)
def test_preprocessing_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"images: {next(iter(wrong))}"):
        Preprocess(**wrong)


def test_preprocessing_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 4, 4)
    with pytest.raises(ConfigError, match=r"size 8x8 does not fit input 'x', 4x4"):
        open_samples(tmp_path, model("N,3,4,4"), images=Preprocess(size=(8, 8)))
    with pytest.raises(ConfigError, match="mean and std need one value, or one for each of 3 channels"):
        open_samples(tmp_path, model("N,3,4,4"), images=Preprocess(mean=(0.5, 0.5)))


def test_images_beside_class_folders_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 4, 4)
    picture(tmp_path / "c" / "b.png", 4, 4)
    with pytest.raises(DataError, match="holds images beside folders of images"):
        open_samples(tmp_path, model("N,3,4,4"))
