"""The HTML report: what it holds, that its numbers are the library's, that nothing escapes, what it refuses."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from support.oracles import lru_tree, model_of, s4d_tree, s5_tree
from support.pages import Page

import ssmreduce as sr
from ssmreduce.cli import main
from ssmreduce.errors import ArgumentError, OptionError, UnknownLayerError, WriteError
from ssmreduce.reporting._ratios import METHODS, RATIOS

CHECKPOINT = "examples/s5_digits/model.safetensors"
HOSTILE = '</script><script>alert("1")</script><img src=x onerror=alert(1)>&amp;\x1b[2J\u202e\ud800\n'


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(5)
    return model_of(lru_tree(rng), lru_tree(rng, n=8))


@pytest.fixture(scope="module")
def candidates(model):
    keep = sr.select(sr.score(model, "last"), ratio=0.4)
    return {"LAST": sr.prune(model, keep), "balanced": sr.reduce(model, keep.orders)}


@pytest.fixture(scope="module")
def made(model, candidates):
    calibration = sr.calibration.calibrate_stationary(model)
    rows = (sr.evaluation.SweepRow("last", 0.0, 14, {}, 0.75), sr.evaluation.SweepRow("last", 0.5, 7, {}, 0.125))
    sweep = sr.evaluation.Sweep(rows)
    return sr.report(model, candidates, calibration=calibration, sweep=sweep, length=50, title="Two layers")


@pytest.fixture(scope="module")
def page(made):
    return Page(made.html).root


def tables(element):
    """First heading of each column and the rows of every table."""
    return [table.rows() for table in element.all("table")]


def test_the_file_loads_nothing_and_runs_only_its_own_script(made, page):
    assert not re.search(r"(https?:)?//\w|@import|url\(|fetch\(|XMLHttp|eval\(", made.html)
    assert [link.attributes["href"] for link in page.all("link")] == ["data:,"]
    assert not list(page.all(src=None))
    assert all(element.attributes["href"].startswith("#") for element in page.all("a"))
    (policy,) = (meta.attributes["content"] for meta in page.all("meta", http_equiv="Content-Security-Policy"))
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert not [
        name for element in page.all() for name in element.attributes if name.startswith("on") or name == "style"
    ]


def test_screen_readers_find_their_way(page):
    ids = [element.attributes["id"] for element in page.all(id=None)]
    assert len(set(ids)) == len(ids)
    for name in ("aria-labelledby", "for", "data-opens", "data-heads"):
        asked = [
            word for element in page.all(**{name.replace("-", "_"): None}) for word in element.attributes[name].split()
        ]
        assert asked
        assert set(asked) <= set(ids)
    assert {link.attributes["href"][1:] for link in page.all("a")} <= set(ids)
    assert all(svg.attributes["role"] == "img" and svg.attributes["aria-label"] for svg in page.all("svg"))
    assert all(
        figure.parent and list(figure.all("table")) for figure in page.all("figure") if list(figure.all("details"))
    )
    assert all(cell.attributes["scope"] in ("col", "row", "colgroup") for cell in page.all("th"))
    assert all(region.attributes["aria-label"] for region in page.all("div", role="region", tabindex="0"))
    assert next(h.tag for h in page.all() if h.tag in ("h1", "h2")) == "h1"
    assert next(page.all("html")).attributes["lang"] == "en"


def test_the_cards_hold_the_comparison(made, model, candidates, page):
    expected = sr.compare(model, candidates, length=50)
    assert made.comparison.rows == expected.rows
    for card, row in zip(page.all("article"), expected.rows[1:], strict=True):
        saved, worst = (dict((cells[0], cells[1:]) for cells in table) for table in tables(card))
        assert saved["states"] == ["14", str(row.states), f"{100 * (row.states / 14 - 1):+.1f} %"]
        assert saved["stored values"][1] == f"{row.stored_values:,}"
        sizes = sum(
            value.nbytes for value in sr.export(candidates[row.label]).values() if isinstance(value, np.ndarray)
        )
        assert row.stored_bytes == sizes
        largest = max(row.layers, key=lambda layer: layer.peak_error)
        assert worst["proven peak error"] == [f"≤ {largest.peak_error:.3g}", largest.name]
        assert worst["output error"][0] == f"{max(layer.output_error for layer in row.layers):.3g}"
        assert re.fullmatch(r"[\d.]+x speed-up", saved["time of the layers"][2])


def test_the_slider_follows_select(model, page):
    assert [float(row.children[0].text.rstrip("%")) / 100 for row in list(page.all("tr", data_step=None))[:18]] == [
        pytest.approx(ratio)
        for ratio in RATIOS[:18]  # each layer keeps a state
    ]
    cells = dict(zip(model, page.all("span", data_counts=None), strict=True))
    circles = dict(zip(model, page.all("svg", data_poles=None), strict=True))
    for method in METHODS.values():
        scores = sr.score(model, method)
        for i, ratio in enumerate(RATIOS[:18]):
            selection = sr.select(scores, ratio=ratio)
            for name in model:
                assert json.loads(cells[name].attributes["data-counts"])[method][i] == selection.orders[name]
                steps = circles[name].attributes[f"data-steps{method}"]
                assert [k for k, step in enumerate(steps) if ord(step) - 97 > i] == selection.keep[name].tolist()


def test_poles_are_packed_to_a_thousandth_of_a_pixel(model, candidates, page):
    for name, circle in zip(model, page.all("svg", data_poles=None), strict=True):
        for key, one in (("poles", model), ("other1", candidates["balanced"])):
            packed = (
                np.frombuffer(base64.b64decode(circle.attributes[f"data-{key}"]), "<i2").reshape(-1, 2) * 1.25 / 32767
            )
            Lambda = one[name].Lambda
            np.testing.assert_allclose(packed, np.stack([Lambda.real, abs(Lambda.imag)], 1), atol=2e-5)


def test_the_tables_of_a_layer_are_the_librarys_numbers(made, model, candidates, page):
    name = model.layers[0]
    ssm, figures = model[name], list(next(page.all("details", class_="layer")).all("figure"))
    poles, importance, hankel, gain, calibrated = (tables(figure) for figure in figures)
    strongest = int(sr.selection.hinf(ssm).argmax())
    assert poles[0][1][0] == str(strongest)
    assert poles[0][1][3] == f"{sr.selection.hinf(ssm)[strongest]:.3g}"
    assert importance[0][2][:2] == ["H2", f"{sr.selection.h2(ssm).max():.3g}"]
    values = sr.hankel_singular_values(ssm)
    assert [row[1] for row in hankel[0][1:]] == [f"{values[k - 1]:.4g}" for k in (1, 2, 4, 8, 12)]
    bounds = [one.layers[0].certificate.upper for one in made.comparison.rows[1:]]
    assert gain[0][-1] == ["proven bound", "–", *(f"{bound:.3g}" for bound in bounds)]
    for omega, original, *errors in gain[0][1:-1]:
        exact = np.linalg.svd(sr.frequency_response(ssm, [float(omega)])[0], compute_uv=False)[0]
        assert float(original) == pytest.approx(exact, rel=0.01)
        assert all(float(error) <= 1.01 * bound for error, bound in zip(errors, bounds, strict=True))
    path = sr.selection.elimination_path(model, sr.calibration.calibrate_stationary(model))[name]
    dropped, error = calibrated[0][3]
    assert float(error) == pytest.approx(np.sqrt(path.cost[0, : int(dropped)].sum() / path.energy), rel=0.01)


def test_the_trade_off_and_the_record_are_shown(page):
    assert ["50 %", "0.125"] in next(page.all("section", aria_labelledby="trade-off")).all("table").__next__().rows()
    facts = dict(
        row for table in tables(next(page.all("section", aria_labelledby="record"))) for row in table if len(row) == 2
    )
    assert facts["ssmreduce"] == sr.__version__
    assert facts["numpy"] == np.__version__
    assert facts["seed"] == "0"
    assert facts["layers with new poles"] == "layers.0, layers.1"


def test_names_of_a_file_are_text(rng):
    tree = {f"{HOSTILE}.{name}": value for name, value in lru_tree(rng).items()}
    model = replace(sr.read(tree), metadata={HOSTILE: HOSTILE, "ssmreduce.record": HOSTILE})
    small = sr.prune(model, sr.select(sr.score(model), ratio=0.5))
    made = sr.report(model, {HOSTILE: small}, certificates=False, length=8, title=HOSTILE, command=HOSTILE)
    root = Page(made.html).root
    assert len(list(root.all("script"))) == 1
    assert not list(root.all("img"))
    text = r"""</script><script>alert("1")</script><img src=x onerror=alert(1)>&amp;\x1b[2J\u202e\ud800\n"""
    assert next(root.all("title")).text == next(root.all("h1")).text == text
    assert text in {cell.text for cell in root.all("td")} & {cell.text for cell in root.all("th")}
    assert made.html.encode().decode().replace("\n", "").isprintable()


@pytest.mark.parametrize("kind", ["ragged batch", "bidirectional", "unstable", "empty"])
def test_every_kind_of_model_has_a_report(kind, rng):
    if kind == "ragged batch":
        model = model_of(s4d_tree(rng))
        small = sr.prune(model, sr.select(sr.score(model), ratio=0.5))
        assert not list(Page(sr.report(small).html).root.all("input"))
    elif kind == "unstable":
        adapter = sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False)
        model = sr.load("tests/data/s5_last_uni_digits64/checkpoint.msgpack", adapter=adapter)
        small = sr.prune(model, {model.layers[1]: np.arange(30)})
    else:
        tree = s5_tree(rng, bidirectional=kind == "bidirectional")
        model = model_of(tree, adapter=sr.adapters.S5(conj_sym=True, discretization="zoh"))
        small = sr.prune(model, {"layers.0": [] if kind == "empty" else [1, 2]})
    made = sr.report(model, {"small": small}, certificates=False, length=8)
    root = Page(made.html).root
    circle = next(root.all("svg", data_poles=None))
    counts = (len(base64.b64decode(circle.attributes[f"data-{key}"])) // 4 for key in ("poles", "other0"))
    assert tuple(counts) == tuple(one.orders[model.layers[0]] for one in (model, small))
    assert not re.search("nan|inf", " ".join(path.attributes.get("d", "") for path in root.all("path")))
    assert "nan" not in next(root.all("main")).text


def test_a_model_alone_and_only_some_layers(model):
    root = Page(sr.report(model, layers=["layers.1"]).html).root
    assert next(root.all("article")).all("table").__next__().rows()[1] == ["states", "14"]
    assert len(list(root.all("details", class_="layer"))) == 1
    assert len(list(root.all("a", data_opens=None))) == 1


def test_layers_that_do_not_fit_are_left_out(monkeypatch, model):
    whole = len(sr.report(model).html.encode())
    assert whole < 100_000
    limit = whole + 3000  # less what the page keeps free
    monkeypatch.setattr("ssmreduce.reporting._page.LIMIT", limit)
    html = sr.report(model).html
    assert len(html.encode()) <= limit
    assert "1 further layer left out" in html
    assert len(list(Page(html).root.all("details", class_="layer"))) == 1


def test_a_report_is_written_whole_or_not_at_all(made, tmp_path):
    made.save(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == made.html
    with pytest.raises(WriteError, match="does not exist"):
        made.save(tmp_path / "none" / "report.html")
    with pytest.raises(ArgumentError, match="path"):
        made.save(3)
    assert made._repr_html_().startswith("<iframe srcdoc=")
    assert next(Page(made._repr_html_()).root.all("iframe")).attributes["srcdoc"] == made.html


def test_bad_calls(made, model, candidates):
    with pytest.raises(ArgumentError, match="with other states or in another order"):
        sr.report(model, {"LAST": candidates["LAST"]}, comparison=made.comparison)
    with pytest.raises(OptionError, match="inputs: options of compare, with no candidates"):
        sr.report(model, inputs={})
    with pytest.raises(OptionError, match="which has been made"):
        sr.report(model, candidates, comparison=made.comparison, evaluate=len)
    with pytest.raises(UnknownLayerError, match="no layer 'x'"):
        sr.report(model, layers=["x"])
    for name in ("sweep", "calibration", "comparison"):
        with pytest.raises(ArgumentError, match=name):
            sr.report(model, candidates, **{name: 3})
    with pytest.raises(ArgumentError, match="model"):
        sr.report("model.safetensors")
    for wrong in ("layers.0", 3):
        with pytest.raises(ArgumentError, match="give a list of names"):
            sr.report(model, layers=wrong)
    with pytest.raises(OptionError, match="length must be a positive integer"):
        sr.report(model, length=0)
    with pytest.raises(ArgumentError, match="seed"):
        sr.report(model, seed="a")
    with pytest.raises(ArgumentError, match="candidates"):
        sr.report(model, [candidates["LAST"]])


def test_the_command_line_writes_a_report(tmp_path, capsys, monkeypatch):
    small, out = str(tmp_path / "small.safetensors"), str(tmp_path / "report.html")
    model = sr.load(CHECKPOINT)
    sr.save(sr.prune(model, sr.select(sr.score(model), ratio=0.5)), small)
    (tmp_path / "network_of_report.py").write_text(
        "import numpy as np, ssmreduce as sr\n"
        f"model = sr.load({str(sr.__path__[0])!r} + '/../{CHECKPOINT}')\n"
        "def make():\n    return sr.network(sr.networks.s5_digits, model=model), [np.ones((2, 64, 1))]\n"
    )
    monkeypatch.chdir(tmp_path)
    checkpoint = f"{sr.__path__[0]}/../{CHECKPOINT}"
    arguments = [
        "report",
        checkpoint,
        small,
        out,
        "--quick",
        "--network",
        "network_of_report:make",
        "--sweep",
        "last",
        "--json",
    ]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert found["bytes"] == len(html.encode())
    assert found["rows"][1]["states"] == 128
    root = Page(html).root
    assert next(root.all("h1")).text == "model.safetensors"
    assert " ".join(["ssmreduce", *arguments]) in {cell.text for cell in root.all("td")}
    assert list(root.all("section", aria_labelledby="trade-off"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["small.safetensors"], 1, "must end in .html"),
        (["r.html", "--sweep", "last"], 2, "--sweep: needs --network"),
        (["r.html", "--network", "a:b"], 2, "--network: would do nothing"),
        (["none/r.html"], 1, "does not exist"),
    ],
)
def test_the_command_line_refuses(arguments, code, words, capsys):
    try:
        got = main(["report", CHECKPOINT, *arguments])
    except SystemExit as error:
        got = error.code
    assert got == code
    assert words in capsys.readouterr().err
