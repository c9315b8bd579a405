"""Tables of the documentation, made from the stored results of the benchmarks: ``python docs/results.py``.

Each function returns a header and rows of text. Nothing is computed but what its docstring says; a test compares the
files in ``docs/tables`` with what this script makes of the stored results.
"""

import csv
import io
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLES = ROOT / "docs" / "tables"
STORED = ROOT / "benchmarks" / "results"
EVIDENCE = ROOT / "benchmarks" / "evidence" / "tables"

Table = tuple[list[str], list[list[str]]]

FAMILIES = {
    "s5_digits": "S5, digits",
    "s5_last_uni_digits64": "S5 (Flax), digits",
    "s5_bidirectional_digits64": "S5, bidirectional, digits",
    "lru_forgi86_digits64": "LRU, digits",
    "s4d_minimal_mnist1d": "S4D, mnist1d",
}
"""Names of trained networks in the stored results -> names in the documentation."""

CHOICES = {
    "LAST": "a file",
    "AIRE": "a file",
    "balanced truncation": "a file",
    "LAST, refitted": "unlabelled data",
    "elimination": "unlabelled data",
    "calibrated balanced": "a network and unlabelled data",
    "compress, no finish": "a network and unlabelled data",
    "compress": "a network and unlabelled data",
}
"""Methods of the headline of the evidence -> what they need."""


def stored(name: str) -> str:
    """Text of a stored result."""
    return (STORED / f"{name}.txt").read_text()


def evidence(name: str) -> list[dict[str, str]]:
    """Rows of a table of the evidence."""
    with (EVIDENCE / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def spread(text: str) -> str:
    """A value and its spread in print."""
    return text.replace(" +- ", " ± ")


def choosing() -> Table:
    """Points of accuracy lost, from the headline of the evidence: a row per method, three columns per kind."""
    kinds = list(dict.fromkeys(row["method"].rsplit(" (", 1)[1][:-1] for row in evidence("headline")))
    cells = {row["method"]: row for row in evidence("headline")}
    columns = [key for key in evidence("headline")[0] if key.startswith("lost at")]
    header = [
        "needs",
        "method",
        *(f"{kind}, {column.removeprefix('lost at ')}" for kind in kinds for column in columns),
    ]
    rows = []
    for method, need in CHOICES.items():
        found = [cells.get(f"{method} ({kind})") for kind in kinds]
        if any(found):
            values = [spread(cell[column]) if cell else "" for cell in found for column in columns]
            rows.append([need, method, *values])
    return header, rows


def networks() -> Table:
    """Accuracy of compressed networks: a row per network, a column per ratio."""
    full = re.findall(r"^(\w+): full ([\d.]+) \((\d+) test", stored("networks"), re.MULTILINE)
    line = re.compile(r"^(\w+)\s+(\d+)% \w+ \w+\s+[\d.]+ ->\s+([\d.]+) \+- ([\d.]+)", re.MULTILINE)
    found = {
        (name, ratio): f"{mean} ± {deviation}" for name, ratio, mean, deviation in line.findall(stored("networks"))
    }
    ratios = sorted({ratio for _, ratio in found}, key=int)
    rows = [[FAMILIES[name], count, value, *(found[name, r] for r in ratios)] for name, value, count in full]
    return ["network", "test sequences", "full", *(f"{r} % dropped" for r in ratios)], rows


def network_details() -> Table:
    """Every row of the benchmark of live networks."""
    line = re.compile(
        r"^(\w+)\s+(\d+)% \w+ \w+\s+([\d.]+) ->\s+([\d.]+) \+- ([\d.]+)\s+lost\s+(-?[\d.]+) \(([\d.]+)\)"
        r"\s+apart ([\d.]+) -> ([\d.]+),\s+([\d.]+) %",
        re.MULTILINE,
    )
    rows = [
        [FAMILIES[name], f"{ratio} %", before, f"{mean} ± {dev}", f"{lost} ({error})", first, last, agreement]
        for name, ratio, before, mean, dev, lost, error, first, last, agreement in line.findall(stored("networks"))
    ]
    header = ["network", "dropped", "before the finish", "after", "points lost", "error before", "error after"]
    return [*header, "agreement (%)"], rows


def part(text: str, begin: str, end: str = "\n\n") -> str:
    """What stands between two texts."""
    return text.split(begin, 1)[1].split(end, 1)[0]


def columns_of(text: str) -> list[list[str]]:
    """Cells of lines whose columns are two spaces or more apart."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.strip("\n").splitlines()]


def reductions() -> Table:
    """Medians over the layers of `bench_reduction.py`."""
    rows = columns_of(part(stored("reduction"), "median H2\n"))
    header = ["method", "median multiple", "worst", "at most 2.2", "at most 3", "median H2 error"]
    return header, [row for row in rows if len(row) == len(header)]


def reduction_accuracy() -> Table:
    """Right answers of a network whose layers are reduced by each method."""
    [head, *rows] = columns_of(part(stored("reduction"), "keep the 4 unstable states.\n\n"))
    return head, rows


def reduction_speed() -> Table:
    """Balanced truncation against SLICOT and pyMOR, in seconds."""
    found = re.findall(
        r"^ +(\d+) +(\d+) +([\d.]+) +([\d.]+) +([\d.]+) +\S+ +([\d.]+) +([\d.]+) +\S+$",
        part(stored("reduction"), "== speed", "stored states"),
        re.MULTILINE,
    )
    return ["real order", "inputs", "ssmreduce", "slycot", "ratio", "pyMOR", "ratio"], [list(row) for row in found]


def calibrated(network: str) -> Table:
    """Accuracy of one network by every calibrated method, with the agreement on sequences held out."""
    [head, *lines] = part(stored("calibrated"), f"\n{network}: full").split("\n")[1:]
    cell = re.compile(r"([\d.]+) \( *([\d.]+)\)|(?<= )-(?= |$)")
    rows = []
    for line in lines:
        values = [f"{m[1]} ({m[2]})" if m[1] else "" for m in cell.finditer(line[26:])]
        rows.append([line[:26].strip(), *values])
    return [column.replace("%", " %") for column in head.split()], rows


def data_needed() -> Table:
    """Accuracy at 90 % by `compress` without a finish, against the number of calibration sequences."""
    rows = []
    for network, label in FAMILIES.items():
        block = part(
            part(stored("calibrated"), "draws of the calibration sequences", "Calibrated on"), f"{network}: full"
        )
        rows.append([label, *(spread(line[-1]) for line in columns_of(block)[2:] if line[-1] != "-")])
    return ["network", "30 sequences", "100 sequences", "300 sequences"], rows


NORM = re.compile(
    r"^(\w+) +N = +(\d+), (\d+) x \d+ +([\d.]+) (ms|s) +x\S+ \(\d+\) +[\d.]+ (?:ms|s) +x\S+ \(\d+\)  ratio +(\S+)",
    re.MULTILINE,
)


def norms() -> Table:
    """Time of slycot over ours for the H-infinity norm: a row per family and order, a column per number of inputs."""
    found = NORM.findall(part(stored("norms"), "H-infinity norm, "))
    widths = sorted({width for _, _, width, *_ in found}, key=int)
    ratios = {(family, order, width): f"{float(ratio):.3g}" for family, order, width, *_, ratio in found}
    keys = dict.fromkeys((family, order) for family, order, *_ in found)
    header = ["family", "real order", *(f"{w} x {w}" for w in widths)]
    return header, [[*key, *(ratios.get((*key, w), "") for w in widths)] for key in keys]


def hankel() -> Table:
    """Time of slycot over ours for the Hankel singular values."""
    found = NORM.findall(part(stored("norms"), "Hankel singular values: "))
    rows = [[family, order, width, f"{time} {unit}", ratio] for family, order, width, time, unit, ratio in found]
    return ["family", "real order", "inputs", "ssmreduce", "slycot / ssmreduce"], rows


LAYER = re.compile(r"^(S5|S4D) (H \d+ n \d+ L \d+ batch \d+) +([\d.]+) (ms|s) +\[.*= +(\d+) % of", re.MULTILINE)
PEERS = {
    "S5": ("products alone", "jax associative_scan", "jax lax.scan", "s5-pytorch", "torch loop", "numpy loop"),
    "S4D": ("torch FFT, cached", "jax FFT, cached", "S4D as published", "jax lax.scan", "numpy loop"),
}


def scans(kind: str) -> Table:
    """Time of every peer over ours for whole layers of one kind; the third column is the share of the peak."""
    heads = list(LAYER.finditer(stored("scan")))
    rows = []
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        if head[1] == kind:
            block = stored("scan")[head.end() : after and after.start()].split("\n\n")[0]
            peers = dict(re.findall(r"^ {4,6}(\S.*?) {2,}[\d.]+ (?:ms|s) .*?([\d.]+)x(?: |$)", block, re.MULTILINE))
            rows.append([head[2], f"{head[3]} {head[4]}", f"{head[5]} %", *(peers.get(p, "") for p in PEERS[kind])])
    return ["layer", "ssmreduce", "of the peak", *PEERS[kind]], rows


def journey() -> Table:
    """Reading, scoring, selecting and writing, against plain NumPy."""
    rows = []
    for name in ("Path-X", "large"):
        block = columns_of(part(stored("journey") + "\n\n", f"\n{name} ", "\n\n"))
        rows += [[name, *row] for row in block if len(row) == 4 and row[0] != "step"]
    return ["model", "step", "ssmreduce (ms)", "plain NumPy (ms)", "ratio"], rows


def files() -> Table:
    """Seconds and memory of saving and loading."""
    rows = columns_of(stored("files"))[2:]
    header = ["format", "save (s)", "read back", "load (s)", "save, memory", "load, memory"]
    return header, rows


def selective() -> Table:
    """Selective layers: a row per network, share removed and method."""
    rows, network = [], ""
    for line in stored("selective_accuracy").splitlines():
        if match := re.match(r"(\w+): full model ([\d.]+) %", line):
            network = f"{match[1]} ({match[2]} %)"
        elif match := re.match(r"(\S+) +(\d+)% +([\d.]+) \+- +([\d.]+) +\S+ \+- \S+ +([\d.]+) \+- +([\d.]+)", line):
            rows.append([network, f"{match[2]} %", match[1], f"{match[3]} ± {match[4]}", f"{match[5]} ± {match[6]}"])
    return ["network (full)", "states removed", "method", "accuracy (%)", "agreement (%)"], rows


def evidence_table(name: str) -> Table:
    """A table of the evidence as it is."""
    with (EVIDENCE / f"{name}.csv").open(newline="") as file:
        [header, *rows] = csv.reader(file)
    return header, [[spread(cell) for cell in row] for row in rows]


def tables() -> dict[str, Table]:
    """Every table by the name of its file."""
    makers = (choosing, networks, network_details, reductions, reduction_accuracy, reduction_speed, data_needed)
    made = {make.__name__: make() for make in (*makers, norms, hankel, journey, files, selective)}
    made |= {f"calibrated_{name}": calibrated(name) for name in FAMILIES}
    made |= {f"scan_{kind.lower()}": scans(kind) for kind in PEERS}
    shown = [path.stem for path in sorted(EVIDENCE.glob("*.csv")) if path.stem not in ("failures", "speed")]
    return made | {f"evidence_{name}": evidence_table(name) for name in shown}


def included(names: list[str]) -> str:
    """Tables of the evidence with their titles and notes."""
    parts = []
    for name in names:
        title, _, *notes = (EVIDENCE / f"{name}.txt").read_text().strip().split("\n\n")
        file = f".. csv-table:: {spread(title)}\n   :file: evidence_{name}.csv\n   :header-rows: 1\n   :class: numbers"
        parts += [file, *notes]
    return "\n\n".join(parts) + "\n"


def includes() -> dict[str, str]:
    """Tables of the evidence by section of its page."""
    shown = [name.removeprefix("evidence_") for name in tables() if name.startswith("evidence_")]
    groups = {key: [name for name in shown if name.startswith(f"{key}_")] for key in ("summary", "accuracy")}
    alone = {name: [name] for name in shown if not name.startswith(tuple(groups))}
    return {name: included(names) for name, names in (groups | alone).items()}


def text(table: Table) -> str:
    """A table as CSV."""
    buffer = io.StringIO()
    header, rows = table
    csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
    return buffer.getvalue()


def markdown(table: Table) -> str:
    """A table as GitHub shows it."""
    header, rows = table
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Write all tables and say what the README quotes."""
    TABLES.mkdir(exist_ok=True)
    for name, table in tables().items():
        (TABLES / f"{name}.csv").write_text(text(table))
    for name, content in includes().items():
        (TABLES / f"evidence_{name}.inc").write_text(content)
    print(markdown(networks()))


if __name__ == "__main__":
    main()
