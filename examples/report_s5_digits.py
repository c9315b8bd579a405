"""An HTML report of the shipped S5 classifier and of four smaller ones.

Run by ``make report``; needs scikit-learn for the training sequences, whose labels are not looked at.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import ssmreduce as sr
from ssmreduce.networks import s5_digits

HERE = Path(__file__).parent


def training_sequences(test: np.ndarray, count: int) -> np.ndarray:
    """Digits that the model is not tested on, pixel by pixel."""
    seen = {row.tobytes() for row in np.float32(test)}
    rows = np.float32(load_digits().data / 16)[..., None]
    return np.stack([row for row in rows if row.tobytes() not in seen][:count])


def main() -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "output" / "report.html", help="(%(default)s)")
    out = parser.parse_args().out
    model = sr.load(HERE / "s5_digits" / "model.safetensors")
    with np.load(HERE / "s5_digits" / "test.npz") as file:
        test, labels = file["x_test"], file["y_test"]
    network = sr.network(s5_digits, model=model)
    calibration = sr.calibrate(model, network.layer_inputs(model, training_sequences(test, 300)))

    def accuracy(candidate: sr.SSMModel) -> float:
        return float((s5_digits(candidate, test).argmax(axis=1) == labels).mean())

    keep = sr.select(sr.score(model, "last"), ratio=0.4)
    candidates = {
        "LAST, 40 %": sr.prune(model, keep),
        "balanced truncation, 40 %": sr.reduce(model, keep.orders),
        "elimination, 40 %": sr.eliminate(model, calibration, ratio=0.4, feedthrough=True),
        "elimination, 80 %": sr.eliminate(model, calibration, ratio=0.8, feedthrough=True),
    }
    methods = ("last", "aire", "balanced", "eliminate")
    sweep = sr.sweep(model, accuracy, methods=methods, calibration=calibration)
    report = sr.report(
        model,
        candidates,
        network=network,
        batches=[test],
        evaluate=accuracy,
        sweep=sweep,
        calibration=calibration,
        title="S5 classifier of sequential digits",
        command="python examples/report_s5_digits.py",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    report.save(out)
    print(report.comparison)
    print(f"written: {out}, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
