"""Entries are whole or not there, and the oldest go first."""

from __future__ import annotations

import os
from multiprocessing import get_context
from pathlib import Path

from optimizer.tune.cache import Cache, key


def folder(place: Path, content: bytes) -> Path:
    place.mkdir()
    (place / "model.onnx").write_bytes(content)
    return place


def read(cache: Cache, name: str, into: Path) -> bytes | None:
    return (into / "model.onnx").read_bytes() if cache.fetch(name, into) else None


def test_what_was_stored_is_found_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1000)
    cache.store("a", folder(tmp_path / "source", b"model"))
    assert read(cache, "a", tmp_path / "into") == b"model"


def test_a_miss_leaves_no_folder(tmp_path: Path) -> None:
    assert not Cache(tmp_path / "cache", 1000).fetch("a", tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_the_least_recently_used_goes_when_there_is_no_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 250)
    for number, name in enumerate("abc"):
        cache.store(name, folder(tmp_path / name, bytes(100)))
        os.utime(cache.folder / name, (number, number)) if (cache.folder / name).exists() else None
        if name == "b":
            assert cache.fetch("a", tmp_path / "read")
    assert sorted(entry.name for entry in cache.folder.iterdir()) == ["a", "c"]


def test_what_was_read_stays_when_its_entry_is_evicted(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 100)
    cache.store("a", folder(tmp_path / "a", bytes(90)))
    assert cache.fetch("a", tmp_path / "into")
    cache.store("b", folder(tmp_path / "b", bytes(90)))
    assert not (cache.folder / "a").exists()
    assert (tmp_path / "into" / "model.onnx").read_bytes() == bytes(90)


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10)
    cache.store("a", folder(tmp_path / "a", bytes(11)))
    assert not list(cache.folder.iterdir())


def _churn(place: str, seed: int) -> None:
    home = Path(place)
    cache = Cache(home / "cache", 3000)
    for number in range(60):
        name = "abcdef"[(number * 7 + seed) % 6]
        work = home / f"{seed}-{number}"
        if cache.fetch(name, work):
            assert (work / "model.onnx").read_bytes() == name.encode() * 1000
        else:
            cache.store(name, folder(work, name.encode() * 1000))


def test_processes_that_share_it_never_see_half_an_entry(tmp_path: Path) -> None:
    context = get_context("spawn")
    workers = [context.Process(target=_churn, args=(str(tmp_path), seed)) for seed in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert not [entry for entry in (tmp_path / "cache").iterdir() if entry.name.startswith(".")]


def test_a_key_depends_on_every_part_and_on_nothing_else() -> None:
    assert key("a", {"x": 1, "y": 2}) == key("a", {"y": 2, "x": 1})
    assert len({key("a", 1), key("a", 2), key("b", 1), key("a", 1, None)}) == 4
