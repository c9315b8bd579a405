"""Statistics refuse what is not there; tables print what the cells hold; the documents say what the tables say."""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from benchmarks.evidence import cells, methods, statistics, tables
from benchmarks.evidence.cells import Cell
from benchmarks.evidence.statistics import Cells, Group, Incomplete

ROOT = Path(__file__).parents[2]
GROUP = Group("t", "s5", (0, 1))


def record(method, ratio, seed, correct, **changes):
    correct = np.asarray(correct, dtype=bool)
    return {
        "task": "t",
        "kind": "s5",
        "seed": seed,
        "method": method,
        "ratio": ratio,
        "status": "ok",
        "accuracy": 100 * float(correct.mean()),
        "correct": cells.packed(correct),
        "count": correct.size,
        "states": 10,
        "orders": [10],
        "seconds": 0.5,
        "agreement": 100 * float(correct.mean()),
        "logit_error": 1 - float(correct.mean()),
        "layer_error": 1 - float(correct.mean()),
        "hinf_error": None,
        "h2_error": ratio,
        **changes,
    }


def first(share, count=200):
    """The first sequences are right, the others not."""
    return np.arange(count) < share * count


def made(curves, seeds=(0, 1)):
    """Records of the full network (all right) and of methods whose curves are share right by ratio."""
    records = [record("full", 0.0, seed, first(1.0)) for seed in seeds]
    for method, curve in curves.items():
        records += [record(method, r, seed, first(share)) for r, share in curve.items() for seed in seeds]
    return records


def falling(knee):
    """Share right at the ratios of a cheap method: all up to the knee, half beyond."""
    return {r: 1.0 if r <= knee else 0.5 for r in methods.CHEAP}


def test_missing_cells_are_refused():
    found = Cells(made({"last": {0.5: 0.9}})[:-1])
    with pytest.raises(Incomplete, match="has not run"):
        found.accuracies(GROUP, "last", 0.5)


def test_failed_cells_are_refused():
    records = made({"last": {0.5: 0.9}})
    records[-1] = {**records[-1], "status": "failed", "error": "ValueError: no"}
    found = Cells(records)
    with pytest.raises(Incomplete, match="failed: ValueError: no"):
        found.losses(GROUP, "last", 0.5)
    assert not found.has(GROUP, "last", 0.5)
    assert tables.failures(found).rows == [("t", "s5-1", "last", "50 %", "ValueError: no")]
    assert "50" not in tables.accuracy(found, GROUP).csv().split("\n", 1)[1]


def test_summary_leaves_out_methods_that_are_not_complete():
    records = made({"last": falling(0.5), "aire": falling(0.7)})
    assert [row[0] for row in tables.summary(Cells(records), [GROUP], "s", "s").rows] == ["LAST", "AIRE"]
    assert [row[0] for row in tables.summary(Cells(records[:-1]), [GROUP], "s", "s").rows] == ["LAST"]


def test_largest_ratio_stops_at_the_first_loss_that_is_too_large():
    curve = falling(0.5) | {0.9: 1.0}
    curve[0.5] = 0.99
    ratios, losses = statistics.largest_ratio(Cells(made({"last": curve})), GROUP, "last")
    np.testing.assert_allclose(ratios, 0.5)
    np.testing.assert_allclose(losses, 1.0)
    worst = Cells(made({"last": dict.fromkeys(methods.CHEAP, 0.2)}))
    np.testing.assert_array_equal(statistics.largest_ratio(worst, GROUP, "last"), 0.0)


def test_paired_difference_has_the_mean_and_covers_it():
    found = Cells(made({"last": {0.5: 0.6}, "aire": {0.5: 0.7}}))
    mean, low, high = statistics.paired_difference(found, [GROUP], "aire", "last", 0.5)
    assert mean == pytest.approx(10.0)
    assert low < 10.0 < high
    # binomial: 10 % of 200 sequences differ, all one way, in both seeds
    width = 2 * 1.96 * 100 * np.sqrt(0.1 * 0.9 / 200)
    assert high - low == pytest.approx(width, rel=0.1)


def test_paired_difference_of_equals_is_nothing():
    found = Cells(made({"last": {0.5: 0.6}, "aire": {0.5: 0.6}}))
    assert statistics.paired_difference(found, [GROUP], "aire", "last", 0.5) == (0.0, 0.0, 0.0)


def test_rank_correlation_is_spearmans(rng):
    a, b = rng.integers(5, size=(2, 40)).astype(float)
    assert statistics.rank_correlation(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert np.isnan(statistics.rank_correlation(np.ones(5), np.arange(5.0)))


def test_error_correlation_has_the_sign_of_the_loss():
    curves = {name: {0.5: 0.9 - 0.05 * i} for i, name in enumerate(("last", "aire", "lamp", "random", "balanced"))}
    found = Cells(made(curves, seeds=(0, 1, 2)))
    for quantity in ("logit_error", "agreement"):
        np.testing.assert_allclose(statistics.error_correlations(found, quantity, list(curves), 0.5), [1.0] * 3)
    assert not statistics.error_correlations(found, "hinf_error", list(curves)).size
    assert not statistics.error_correlations(found, "agreement", ["last", "aire"]).size


def test_networks_that_do_not_use_their_states_are_marked():
    used, unused = (Cells(made({"random": {0.5: share}})) for share in (0.94, 0.96))
    assert used.uses_its_states(GROUP)
    assert not unused.uses_its_states(GROUP)
    assert tables.networks(unused).rows[0][-1] == "no"


def test_groups_of_few_seeds_are_not_averaged():
    few, enough = (
        Cells(made({"last": {0.5: 0.9}, "random": {0.5: 0.1}}, seeds=seeds)) for seeds in ((0, 1), (0, 1, 2))
    )
    assert not few.averaged
    assert enough.averaged == [Group("t", "s5", (0, 1, 2))]
    assert not tables.comparisons(few).rows
    assert tables.comparisons(enough).rows


def test_formats_hold_the_same_numbers():
    table = tables.Table("t", "A title", ("method", "at 50 %"), [("global_x", "1.0 +- 0.5")], ("a note",))
    assert "global_x  1.0 +- 0.5" in table.text()
    assert table.csv() == "method,at 50 %\nglobal_x,1.0 +- 0.5\n"
    assert r"global\_x & 1.0 $\pm$ 0.5 \\" in table.latex()


def test_spread():
    assert tables.spread([1.0, 3.0]) == "2.0 +- 1.4"
    assert tables.spread([1.0], 2) == "1.00"


def test_no_cells_no_tables(tmp_path):
    with pytest.raises(Incomplete, match="no cells"):
        tables.write_all(tmp_path / "tables", tmp_path / "results")


@pytest.fixture(scope="module")
def shipped():
    return tables.all_tables(Cells(cells.stored()))


def test_stored_tables_are_those_of_the_stored_cells(shipped):
    for table in shipped:
        for suffix, content in ((".txt", table.text()), (".csv", table.csv()), (".tex", table.latex())):
            assert (tables.TABLES / f"{table.name}{suffix}").read_text() == content, f"make tables: {table.name}"
    known = {f"{table.name}{suffix}" for table in shipped for suffix in (".txt", ".csv", ".tex")}
    for page in tables.PAGES:
        assert (tables.TABLES / f"all_{page}.txt").read_text() == tables.page_of(shipped, page)
        known.add(f"all_{page}.txt")
    assert {path.name for path in tables.TABLES.iterdir() if path.suffix != ".png"} == known


def test_every_shipped_network_has_its_cell():
    found = Cells(cells.stored())
    for job in cells.trained_jobs():
        found.record(Cell(job.task, job.kind, job.seed, "full", 0.0))


def quoted(text):
    """The numbers that a page takes from a table: ``.. from TABLE: row label: column`` comments with their values."""
    pattern = re.compile(r"\.\. from (\w+): ([^:\n]+): ([^:\n]+): ([^\n]+)")
    return [match.groups() for match in pattern.finditer(text)]


def test_pages_quote_the_stored_tables(shipped):
    by_name = {table.name: table for table in shipped}
    page = (ROOT / "docs" / "evidence.rst").read_text()
    found = quoted(page)
    assert found
    for name, label, column, value in found:
        table = by_name[name]
        (row,) = [row for row in table.rows if row[0] == label]
        assert row[table.header.index(column)] == value
        assert value.split(" +-")[0] in re.sub(r"\.\. from [^\n]+", "", page)
