"""The generators against independent readings of their description; the splits; the checks of packages."""

import dataclasses
import hashlib
import json
import tarfile

import numpy as np
import pytest

from benchmarks.evidence import tasks
from benchmarks.evidence.tasks import _generated, _listops, _packages, _pathfinder, _text
from benchmarks.evidence.tasks._splits import Split, Splits, divided


def value_of(words):
    """Value of an expression by a stack machine that reads it from the left."""
    stack = []
    for word in words:
        if word != "]":
            stack.append(int(word) if word.isdigit() else word)
            continue
        arguments = []
        while isinstance(stack[-1], int):
            arguments.append(stack.pop())
        operator, ordered = stack.pop(), sorted(arguments)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2
        results = {"[MIN": ordered[0], "[MAX": ordered[-1], "[MED": median, "[SM": sum(arguments) % 10}
        stack.append(results[operator])
    (value,) = stack
    return value


@pytest.fixture(scope="module")
def listops():
    return _listops.listops(32, (300, 50, 50))


@pytest.fixture(scope="module")
def pathfinder():
    return _pathfinder.pathfinder(16, (300, 20, 80))


def test_listops_labels_are_the_values_of_the_expressions(listops):
    for split in (listops.train, listops.val, listops.test):
        for tokens, label in zip(split.x, split.y, strict=True):
            words = [_listops.WORDS[token] for token in tokens if token]
            assert value_of(words) == label


def test_listops_lengths_are_spread_and_padding_comes_first(listops):
    x = np.concatenate([listops.train.x, listops.val.x, listops.test.x])
    lengths = (x > 0).sum(axis=1)
    assert lengths.min() >= 16
    assert (x[np.arange(32) < 32 - lengths[:, None]] == 0).all()
    assert (x[np.arange(32) >= 32 - lengths[:, None]] > 0).all()
    bands = np.histogram(lengths, bins=[16, 20, 24, 28, 33])[0]
    np.testing.assert_array_equal(bands, 100)


def test_listops_is_the_same_every_time(listops):
    again = _listops.listops(32, (300, 50, 50))
    np.testing.assert_array_equal(again.test.x, listops.test.x)
    np.testing.assert_array_equal(again.test.y, listops.test.y)


def followed(picture, start):
    """Pixels that are reached from a dot along dashes, over gaps of one pixel and its diagonal."""
    lit = {tuple(p) for p in np.argwhere(picture > 0)}
    reached, queue = {start}, [start]
    while queue:
        r, c = queue.pop()
        near = {(r + i, c + j) for i in range(-2, 3) for j in range(-2, 3) if i * i + j * j <= 5}
        fresh = (near & lit) - reached
        reached |= fresh
        queue += fresh
    return reached


def test_pathfinder_paths_of_positive_pictures_are_connected(pathfinder):
    for picture, label in zip(pathfinder.train.x.reshape(-1, 16, 16), pathfinder.train.y, strict=True):
        dots = [tuple(p) for p in np.argwhere(picture == 1.0)]
        assert len(dots) == 2
        if label:
            assert dots[1] in followed(picture, dots[0])


def test_pathfinder_distance_of_the_dots_tells_nothing(pathfinder):
    rng = np.random.default_rng(0)
    parts = [pathfinder.train, pathfinder.val, pathfinder.test]
    pictures = np.concatenate([part.x for part in parts]).reshape(-1, 16, 16)
    labels = np.concatenate([part.y for part in parts])
    assert labels.mean() == 0.5
    distance = np.array([np.linalg.norm(np.subtract(*np.argwhere(picture == 1.0))) for picture in pictures])
    gap = abs(distance[labels == 1].mean() - distance[labels == 0].mean())
    chance = [rng.permutation(labels) for _ in range(200)]
    assert gap <= np.quantile([abs(distance[y == 1].mean() - distance[y == 0].mean()) for y in chance], 0.95)


def test_pathfinder_without_the_balance_would_have_the_shortcut():
    rng = np.random.default_rng(0)
    curves = _pathfinder.Curves(rng, 16)
    layouts = [_pathfinder.layout(curves) for _ in range(200)]
    mean = [np.mean([_pathfinder.distance_bin(_pathfinder.ends(p, label, rng)) for p in layouts]) for label in (0, 1)]
    assert mean[1] > 1.2 * mean[0]


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_digits_come_whole_and_scaled(part):
    split = getattr(tasks.load("digits"), part)
    assert split.x.shape[1:] == (64, 1)
    assert split.x.min() == 0.0
    assert split.x.max() == 1.0


def test_division_keeps_equal_sequences_in_one_part():
    x = np.repeat(np.arange(50.0, dtype=np.float32), 2).reshape(100, 1, 1)
    train, val, test = divided(x, np.zeros(100), (30, 10, 10), seed=0)
    values = [set(part.x.ravel()) for part in (train, val, test)]
    assert [len(v) for v in values] == [30, 10, 10]
    assert len(set.union(*values)) == 50


def test_division_refuses_more_than_there_is():
    with pytest.raises(ValueError, match="cannot be divided"):
        divided(np.zeros((3, 1, 1)), np.zeros(3), (2, 1, 1), seed=0)


def test_unlabelled_sequences_are_training_sequences():
    split = Split(np.arange(20.0, dtype=np.float32).reshape(20, 1, 1), np.zeros(20, np.int64))
    other = Split(-1 - split.x, split.y)
    drawn = Splits(split, other, other, classes=2).unlabelled(5, seed=3)
    assert len(drawn) == 5
    assert np.isin(drawn, split.x).all()


def test_unknown_task_is_refused():
    with pytest.raises(KeyError, match="choose from digits"):
        tasks.load("cifar")


def test_generated_splits_are_read_back_as_they_were(tmp_path, monkeypatch, listops):
    monkeypatch.setenv("SSMREDUCE_EVIDENCE_DATA", str(tmp_path))
    path = tmp_path / "splits.npz"
    _generated._write(listops, path)
    again = _generated._read(path)
    np.testing.assert_array_equal(again.train.x, listops.train.x)
    assert (again.classes, again.tokens) == (10, len(_listops.WORDS))


def test_text_drops_headers_and_other_characters():
    assert _text.body_of("From: a\nTo: b\n\n Hi\n\nthere \n") == "Hi\n\nthere"
    np.testing.assert_array_equal(_text.tokens_of("aé", 4), [0, 0, 97, 127])
    np.testing.assert_array_equal(_text.tokens_of("abcdef", 3), [97, 98, 99])


def made_package(folder, text):
    """An npm-like archive with a licence, and the package that pins it."""
    (folder / "LICENSE").write_text(text)
    archive = folder / "small-1.0.tgz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder / "LICENSE", "package/LICENSE")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return archive, _packages.Package("small", "1.0", "npm", digest, "MIT", "package/LICENSE", "MIT License")


@pytest.fixture
def package(tmp_path, monkeypatch):
    def arranged(text, **changes):
        archive, package = made_package(tmp_path, text)
        package = dataclasses.replace(package, **changes)
        monkeypatch.setenv("SSMREDUCE_EVIDENCE_DATA", str(tmp_path / "cache"))
        copied = property(lambda self: ["cp", str(archive), "."])
        monkeypatch.setattr(_packages.Package, "command", copied)
        return package

    return arranged


def test_package_is_unpacked_once(package, monkeypatch):
    pinned = package("The MIT License")
    folder = _packages.unpacked(pinned)
    assert (folder / "package/LICENSE").read_text() == "The MIT License"
    monkeypatch.setattr(_packages.Package, "command", property(lambda self: ["false"]))
    assert _packages.unpacked(pinned) == folder


def test_another_checksum_is_refused(package):
    pinned = package("The MIT License", sha256="0" * 64)
    with pytest.raises(RuntimeError, match="expected 0000"):
        _packages.unpacked(pinned)


def test_another_licence_is_refused(package):
    pinned = package("All rights reserved")
    with pytest.raises(RuntimeError, match="does not say"):
        _packages.unpacked(pinned)


def test_missing_client_is_named(package, monkeypatch):
    pinned = package("The MIT License")
    monkeypatch.setattr(_packages.Package, "command", property(lambda self: ["no-such-client"]))
    with pytest.raises(RuntimeError, match="no-such-client"):
        _packages.unpacked(pinned)


def test_every_package_is_pinned_with_a_licence():
    for package in _packages.PACKAGES:
        assert len(package.sha256) == 64
        assert package.licence
        assert package.version in " ".join(package.command)
    assert json.dumps([dataclasses.asdict(p) for p in _packages.PACKAGES])
