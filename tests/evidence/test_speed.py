"""Forward passes are measured for every network and ratio, and make a table."""

from benchmarks.evidence import speed, tables


def test_measurements_make_a_table(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "REPEATS", 2)
    rows = speed.measure([trained("s5"), trained("s4d")], tmp_path / "speed.json")
    assert [(row["kind"], row["ratio"]) for row in rows] == [(k, r) for k in ("s5", "s4d") for r in speed.RATIOS]
    assert all(row["milliseconds"] > 0 for row in rows)
    (table,) = tables.speed(tmp_path / "speed.json")
    assert [row[:2] for row in table.rows] == [("small", "s5"), ("small", "s4d")]
    assert table.rows[0][2] == f"{rows[0]['milliseconds']:.3f}"
    assert not tables.speed(tmp_path / "missing.json")
