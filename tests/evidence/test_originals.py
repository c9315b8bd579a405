"""The loaders of the original data sets, on small files in the publishers' formats; the papers' settings build."""

import wave

import numpy as np
import pytest

from benchmarks.evidence import models, settings, tasks
from benchmarks.evidence.tasks import _originals


def test_listops_of_the_long_range_arena(tmp_path):
    (tmp_path / "listops").mkdir()
    for part in ("train", "val", "test"):
        text = "Source\tTarget\n( ( ( [MAX 2 ) 9 ) ] )\t9\n( ( [SM ( ( [MIN 4 ) 7 ) ] ) 8 ] )\t2\n"
        (tmp_path / "listops" / f"basic_{part}.tsv").write_text(text)
    splits = _originals.listops(tmp_path, length=8)
    words = [[tasks._listops.WORDS[token] for token in row] for row in splits.test.x]
    assert words[0] == ["<pad>"] * 4 + ["[MAX", "2", "9", "]"]
    assert words[1] == ["<pad>", "[SM", "[MIN", "4", "7", "]", "8", "]"]
    np.testing.assert_array_equal(splits.train.y, [9, 2])


def test_imdb(tmp_path):
    for part in ("train", "test"):
        for name in ("neg", "pos"):
            folder = tmp_path / "aclImdb" / part / name
            folder.mkdir(parents=True)
            for i in range(10):
                (folder / f"{i}.txt").write_text(f"{name}{i}", encoding="utf-8")
    splits = _originals.imdb(tmp_path, length=6)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (18, 2, 20)
    assert "".join(map(chr, splits.test.x[0])) == "\0\0neg0"
    np.testing.assert_array_equal(splits.test.y, np.repeat([0, 1], 10))


def test_cifar(tmp_path, rng):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    colours = rng.integers(256, size=(6, 10, 3, 1024), dtype=np.uint8)
    for i, name in enumerate([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]):
        records = np.concatenate([np.arange(10, dtype=np.uint8)[:, None], colours[i].reshape(10, -1)], axis=1)
        (folder / name).write_bytes(records.tobytes())
    splits = _originals.cifar(tmp_path)
    assert (len(splits.train), len(splits.val), splits.length) == (45, 5, 1024)
    red, green, blue = colours[5, 3] / 255
    np.testing.assert_allclose(splits.test.x[3, :, 0], 0.2989 * red + 0.587 * green + 0.114 * blue, rtol=1e-6)
    np.testing.assert_array_equal(splits.test.y, np.arange(10))


def test_speech_commands(tmp_path):
    folder = tmp_path / "SpeechCommands"
    samples = np.arange(12_000, dtype="<i2")
    for word in ("cat", "dog", "_background_noise_"):
        (folder / word).mkdir(parents=True)
        for name in ("a", "b", "c"):
            with wave.open(str(folder / word / f"{name}.wav"), "wb") as file:
                file.setparams((1, 2, 16_000, 0, "NONE", ""))
                file.writeframes(samples.tobytes())
    (folder / "validation_list.txt").write_text("cat/a.wav\ndog/a.wav\n")
    (folder / "testing_list.txt").write_text("cat/b.wav\ndog/b.wav\n")
    splits = _originals.speech(tmp_path, rate=8_000)
    assert (splits.classes, splits.length) == (2, 8_000)
    np.testing.assert_array_equal(splits.test.y, [0, 1])
    np.testing.assert_allclose(splits.train.x[0, :6_000, 0], np.arange(0, 12_000, 2) / 32768)
    assert not splits.train.x[0, 6_000:].any()


def test_the_folder_is_asked_for():
    with pytest.raises(KeyError, match="--data DIR"):
        tasks.load("lra-text")


@pytest.mark.parametrize("key", list(settings.PAPER))
def test_settings_of_the_papers_build(key):
    assert key[0] in tasks.ORIGINALS
    setting = settings.setting_of(*key)
    size = models.Size(setting.width, 1, setting.states, setting.blocks)
    network = models.Network(key[1], 1, 10, size=size)
    assert network.layers[0].seq.Lambda_re.shape == (setting.states,)
