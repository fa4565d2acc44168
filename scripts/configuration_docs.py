"""Writes the tables of docs/configuration.md from the configuration's own fields; `--check` only compares.

The text between the two marks of a section is replaced, everything else stays.
"""

import re
import sys
from pathlib import Path

from tickcast import fields, layers

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
MARKS = re.compile(r"(<!-- keys: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(page: str) -> str:
    """Return the page with its tables made anew."""
    return MARKS.sub(lambda match: f"{match[1]}{_table(match[2])}{match[3]}", page)


def _table(section: str) -> str:
    prefix = "" if section == "top" else f"{section}."
    lines = ["| key | default | allowed | meaning | also as |", "|---|---|---|---|---|"]
    for key, kind in layers.all_keys().items():
        head, _, name = key.rpartition(".")
        if (head or "top") != section:
            continue
        flag = f"`{layers.FLAGS[key]}` " if key in layers.FLAGS else ""
        default = layers.default_text(key)
        cells = [
            f"`{name}`",
            f"`{default}`" if default else _nothing(kind),
            fields.allowed_text(kind) or "text",
            layers.documentation()[f"{prefix}{name}"],
            f"{flag}`{layers.variable(key)}`",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _nothing(kind: object) -> str:
    return "`false`" if kind is bool else "none"


def main() -> int:
    """Write the page, or tell whether it is up to date."""
    page = PAGE.read_text("utf-8")
    new = rendered(page)
    if "--check" in sys.argv:
        return int(new != page)
    PAGE.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
