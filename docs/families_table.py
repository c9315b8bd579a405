"""The table of model families in ``guide/families.rst``, made from the registry: ``python docs/families_table.py``."""

from ssmreduce.adapters import ADAPTERS, Adapter, DropIn

FRAMEWORKS = {"torch": "PyTorch", "flax": "Flax", "equinox": "Equinox"}
FILES = ("read", "mask", "compact")
LIVE = ("drop-in", "fine-tune")
HEAD = ("adapter", "flags to give", *FILES, *LIVE, "bidirectional", *FRAMEWORKS.values())


FAMILIES = {name: cls for name, cls in ADAPTERS.items() if cls is not DropIn}  # whose layers are our own


def row(cls: type[Adapter]) -> tuple[str, ...]:
    """One family: what can be done with its files, and the frameworks whose live networks are run and reduced."""
    axes = {axis for layout in cls.layouts for tensor in layout.values() for axis in tensor.axes}
    two_sided = bool({"2n", "2p"} & axes) or any("C2" in layout for layout in cls.layouts)
    written = f"as ``{ADAPTERS[cls.written_as].__name__}``" if cls.written_as else "yes"
    live = {call.framework for call in cls.calls if call.live}
    return (
        f"``{cls.__name__}``",
        ", ".join(f"``{flag}``" for flag in cls.flag_help) or "none",
        "yes" if cls.detected else "by name",
        written,
        written,
        *("yes" if live else "" for _ in LIVE),
        "yes" if two_sided else "",
        *("yes" if framework in live else "" for framework in FRAMEWORKS),
    )


def table() -> str:
    """The table in reStructuredText."""
    rows = [HEAD, *(row(cls) for cls in FAMILIES.values())]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for cells in rows:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}".rstrip() for i, cell in enumerate(cells)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table())
