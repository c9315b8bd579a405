"""A short, seeded part of the fuzz suite; ``make fuzz`` runs 100,000 inputs."""

import os

import pytest

from .hostile import folder_of, in_threads, with_few_descriptors, with_little_room
from .inputs import SUFFIXES
from .outcomes import Tally, outcome
from .trials import crafted, damaged, written

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.mark.parametrize("part", [damaged, crafted, written], ids=lambda part: part.__name__)
def test_no_hostile_input_ends_badly(part, rng, tmp_path):
    for library in ("torch", "msgpack"):
        pytest.importorskip(library)
    tally = Tally()
    part(tally, 600, rng, tmp_path, SUFFIXES)
    assert tally.bad() == 0, tally.examples[0]
    assert sum(counts.total() for counts in tally.counts.values()) > 500


@pytest.mark.parametrize("one", [False, True])
def test_threads_that_save_at_once(one, tmp_path):
    assert set(in_threads(tmp_path, ".npz", 64, one)) == {"right"}


def test_limits_of_the_system(tmp_path):
    for limit in (0, 1000, 17_000):
        assert outcome(lambda: with_little_room(folder_of(tmp_path, "room"), ".npz", limit))[0] == "refused"  # noqa: B023
    said = {outcome(lambda: with_few_descriptors(folder_of(tmp_path, "few"), ".npz", spare)) for spare in range(6)}  # noqa: B023
    assert said <= {("right", ""), ("refused", "")}
    assert ("refused", "") in said


def test_what_is_bad_is_seen():
    def raises():
        raise KeyError("raw")

    assert outcome(raises)[0] == "RAW"
    assert outcome(lambda: "something else") == ("WRONG", "something else")
    assert outcome(lambda: bytearray(2**27) and "right", 10)[0] == "MEMORY"
