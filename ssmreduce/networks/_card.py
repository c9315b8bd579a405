"""The model card of a reduced network: what was done to it, from its record."""

from collections.abc import Mapping
from typing import Any

from ..errors import printable

_SAID = {
    "ratio": "share of the states to drop",
    "method": "how the states were chosen and refitted",
    "finish": "how the outputs were matched to the original's",
    "sequences": "unlabelled sequences it was fitted on",
    "sequences_apart": "unlabelled sequences kept apart",
    "error_before_finish": "relative squared output error on those, before the finish",
    "error": "relative squared output error on those",
    "agreement": "agreement with the original on those",
}


def model_card(name: str, description: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """Text of a model card in Markdown, with the header that Hugging Face reads.

    Parameters
    ----------
    name : str
        Of the network's class.
    description : mapping
        What `describe` returned.
    evidence : mapping
        Further numbers or text, such as accuracies or certificates.
    """
    record = description.get("record") or {}
    library = {"torch": "pytorch", "nnx": "flax"}.get(description["framework"], description["framework"])
    lines = ["---", f"library_name: {library}", "tags:", "- state-space-model", "- model-reduction", "---", ""]
    lines += [f"# {name}, reduced", ""]
    lines += ["The state-space layers of this network were made smaller with ssmreduce; all other weights are those of"]
    lines += ["the original network.", "", "## States", "", "| layer | before | now |", "|---|---|---|"]
    before, now = record.get("orders_before", {}), record.get("orders")
    now = now if now is not None else {key: sum(layer["counts"]) for key, layer in description["layers"].items()}
    lines += [f"| `{_cell(layer)}` | {before.get(layer, '')} | {states} |" for layer, states in now.items()]
    total = (f"{sum(before.values())}" if before else "", f"{sum(now.values())}")
    lines += [f"| all | {total[0]} | {total[1]} |", ""]
    told = [(text, record[key]) for key, text in _SAID.items() if record.get(key) is not None]
    if told:
        lines += ["## How it was reduced", "", "No labels were used.", ""]
        lines += [f"- {text}: {_short(value)}" for text, value in told] + [""]
    if evidence:
        lines += ["## Evidence", ""] + [f"- {_line(key)}: {_short(value)}" for key, value in evidence.items()] + [""]
    lines += ["## How to load it", "", "```python", "import ssmreduce as sr", ""]
    lines += [f"small = sr.networks.restore({name}(...), folder)", "```"]
    return "\n".join(lines) + "\n"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _line(value)


def _line(value: Any) -> str:
    """Text on one line, without control characters."""
    return printable(value).replace("\n", "\\n")


def _cell(name: str) -> str:
    """A name as code in a table."""
    return _line(name).replace("|", r"\|").replace("`", "'")
