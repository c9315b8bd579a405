"""The original data sets, for users who have them: no package holds these, and none was read for the tables here.

A folder holds them as their publishers pack them: ``listops/basic_{train,val,test}.tsv`` of the Long Range Arena,
``aclImdb``, ``cifar-10-batches-bin`` and ``SpeechCommands`` (version 2, all 35 words).
"""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ._listops import TOKEN
from ._splits import Split, Splits, divided
from ._text import tokens_of


def listops(folder: Path, length: int = 2048) -> Splits:
    """ListOps of the Long Range Arena: 96,000 / 2,000 / 2,000 expressions."""
    parts = [_listops_part(folder / "listops" / f"basic_{part}.tsv", length) for part in ("train", "val", "test")]
    return Splits(*parts, classes=10, tokens=len(TOKEN))


def _listops_part(path: Path, length: int) -> Split:
    x, y = [], []
    for line in path.read_text().splitlines()[1:]:
        source, target = line.split("\t")
        words = [word for word in source.split() if word not in "()"][:length]
        x.append([0] * (length - len(words)) + [TOKEN[word] for word in words])
        y.append(int(target))
    return Split(np.array(x, dtype=np.int64), np.array(y, dtype=np.int64))


def imdb(folder: Path, length: int = 4096) -> Splits:
    """Film reviews as characters; a tenth of the training part validates."""
    train, test = (_imdb_part(folder / "aclImdb" / part, length) for part in ("train", "test"))
    val = len(train) // 10
    parts = divided(train.x, train.y, (len(train) - val, val, 0), seed=0, unique=False)
    return Splits(parts[0], parts[1], test, classes=2, tokens=128)


def _imdb_part(folder: Path, length: int) -> Split:
    paths = [
        (path, label) for label, name in enumerate(("neg", "pos")) for path in sorted((folder / name).glob("*.txt"))
    ]
    x = np.array([tokens_of(path.read_text(encoding="utf-8"), length) for path, _ in paths])
    return Split(x, np.array([label for _, label in paths], dtype=np.int64))


def cifar(folder: Path) -> Splits:
    """CIFAR-10 in grey, 1,024 steps; a tenth of the training part validates."""
    folder = folder / "cifar-10-batches-bin"
    pieces = [_cifar_part(folder / f"data_batch_{number}.bin") for number in range(1, 6)]
    x, y = (np.concatenate([getattr(piece, key) for piece in pieces]) for key in "xy")
    val = len(y) // 10
    train, held, _ = divided(x, y, (len(y) - val, val, 0), seed=0, unique=False)
    return Splits(train, held, _cifar_part(folder / "test_batch.bin"), classes=10)


def _cifar_part(path: Path) -> Split:
    """Records of one label and 3 x 1,024 colour values."""
    records = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 3073)
    colours = records[:, 1:].reshape(-1, 3, 1024) / 255.0
    grey = np.einsum("c,icl->il", [0.2989, 0.587, 0.114], colours)
    return Split(grey.astype(np.float32)[..., None], records[:, 0].astype(np.int64))


def speech(folder: Path, rate: int = 16_000) -> Splits:
    """Speech Commands, one second; every second sample at 8,000 Hz, as in the papers."""
    folder = folder / "SpeechCommands"
    listed = {part: set((folder / f"{part}_list.txt").read_text().split()) for part in ("validation", "testing")}
    words = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("_"))
    files: dict[str, list[tuple[Path, int]]] = {"train": [], "validation": [], "testing": []}
    for label, word in enumerate(words):
        for path in sorted((folder / word).glob("*.wav")):
            part = next((part for part, names in listed.items() if f"{word}/{path.name}" in names), "train")
            files[part].append((path, label))
    parts = [_speech_part(files[part], 16_000 // rate) for part in ("train", "validation", "testing")]
    return Splits(*parts, classes=len(words))


def _speech_part(files: list[tuple[Path, int]], every: int) -> Split:
    x = np.stack([_second(path)[::every] for path, _ in files])
    return Split(x[..., None], np.array([label for _, label in files], dtype=np.int64))


def _second(path: Path) -> np.ndarray:
    """16,000 samples in [-1, 1), zeros behind short recordings."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(16_000), "<i2").astype(np.float32) / 32768
    return np.concatenate([samples, np.zeros(16_000 - len(samples), np.float32)])


ORIGINALS: dict[str, Callable[[Path], Splits]] = {
    "lra-listops": listops,
    "lra-text": imdb,
    "lra-image": cifar,
    "speech35": speech,
}
"""Tasks that need a folder."""
