"""Debian's packages as a data set: the one-line description, and what the package is for as its labels.

A check of the default on texts that nothing was chosen by: `studies/packages.yaml`. It needs the package index of a
Debian machine, here of bookworm, main, amd64:

    lz4 -dc /var/lib/apt/lists/*_bookworm_main_binary-amd64_Packages.lz4 > Packages
    python benchmarks/debian_packages.py Packages data/packages

Labels are the tags "use::", "works-with::" and "field::" (https://wiki.debian.org/Debtags). Packages of one source
have nearly the same texts: one of each is taken, so that no split knows another.
"""

import argparse
import csv
import random
import re
from pathlib import Path

FACETS = ("use::", "works-with::", "field::")
HELD_OUT = 1200  # validation examples, and as many test examples


def packages(index: str) -> dict[str, list[str]]:
    """Descriptions and their tags, one package a source."""
    sources, found = set(), {}
    for entry in index.split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): *(.*(?:\n .*)*)", entry, re.MULTILINE))
        if "Tag" not in fields:
            continue
        source = fields.get("Source", fields["Package"]).split()[0]
        tags = []  # "use::{editing,viewing}" are two
        for facet, several, one in re.findall(r"([\w+-]+::)(?:\{([^}]*)\}|([\w:+-]+))", fields["Tag"]):
            tags += [facet + name for name in (several or one).split(",") if facet in FACETS and name != "TODO"]
        if tags and source not in sources:
            sources.add(source)
            found[fields["Description"].splitlines()[0]] = tags
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    found = packages(arguments.index.read_text(encoding="utf-8"))
    texts = sorted(found)
    random.Random(0).shuffle(texts)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    splits = {"validation": texts[:HELD_OUT], "test": texts[HELD_OUT : 2 * HELD_OUT], "train": texts[2 * HELD_OUT :]}
    for split, rows in splits.items():
        with (arguments.folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "labels"])
            writer.writerows([text, ";".join(found[text])] for text in rows)
        print(f"{split}: {len(rows)}")


if __name__ == "__main__":
    main()
