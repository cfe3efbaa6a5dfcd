"""The parts of a report's page: style, tables, pictures as SVG, cards of examples. Imports matplotlib when drawing."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from .figures import BLUE, FAINT, GREEN, INK, MUTED, ORANGE, PAPER, PINK, POINT, SKY, YELLOW, cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Each ink of the pictures on a light and on a dark ground.
_INKS = {
    PAPER: ("paper", "#ffffff", "#15191e"),
    INK: ("ink", INK, "#e8ebee"),
    MUTED: ("muted", MUTED, "#9fabb7"),
    FAINT: ("faint", FAINT, "#343c45"),
    POINT: ("point", POINT, "#77828d"),
    BLUE: ("blue", BLUE, "#4ba3dc"),
    ORANGE: ("orange", ORANGE, "#ee8140"),
    GREEN: ("green", GREEN, "#2fbf96"),
    PINK: ("pink", PINK, "#dc97bd"),
    YELLOW: ("yellow", YELLOW, "#edb540"),
    SKY: ("sky", SKY, "#7cc4ee"),
}


def _variables(dark: bool) -> str:
    return "".join(f"--{name}:{after if dark else before};" for name, before, after in _INKS.values())


_STYLE = f"""
:root{{color-scheme:light dark;{_variables(False)}}}
@media(prefers-color-scheme:dark){{:root{{{_variables(True)}}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,"Segoe UI",Roboto,sans-serif}}
main{{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 4rem}}
h1{{font-size:1.7rem;line-height:1.25;margin:.5rem 0;overflow-wrap:anywhere}}
h2{{font-size:1.3rem;margin:3rem 0 .5rem;padding-top:1rem;border-top:1px solid var(--faint)}}
h3{{font-size:1.05rem;margin:2rem 0 .3rem}}
p,li{{max-width:46rem}}
a{{color:var(--blue)}}
.muted,figcaption{{color:var(--muted);font-size:.92rem}}
nav{{font-size:.95rem;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:1rem 0}}
.numbers{{display:flex;flex-wrap:wrap;gap:.8rem 2.2rem;margin:1rem 0}}
.numbers div{{display:flex;flex-direction:column-reverse}}
.numbers dt{{color:var(--muted);font-size:.85rem}}
.numbers dd{{margin:0;font-size:1.5rem;font-weight:600;font-variant-numeric:tabular-nums}}
.scroll{{overflow-x:auto;margin:1rem 0}}
figure{{margin:1.5rem 0}}
figure .scroll{{margin:0}}
figure svg{{display:block;width:100%;min-width:42rem;height:auto;fill:var(--ink)}}
table{{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}}
th,td{{padding:.25rem .7rem .25rem 0;text-align:right;border-bottom:1px solid var(--faint);vertical-align:top}}
th{{color:var(--muted);font-weight:600}}
th:first-child,td:first-child,td.text,th.text{{text-align:left}}
td.text{{white-space:nowrap}}
details{{margin:1rem 0}}
summary{{cursor:pointer;color:var(--blue)}}
code{{font-size:.9em;overflow-wrap:anywhere}}
.card{{border:1px solid var(--faint);border-radius:.5rem;padding:.7rem .9rem;margin:.8rem 0;font-size:.9rem}}
.card p{{margin:.25rem 0;max-width:none;overflow-wrap:anywhere}}
.card ol{{margin:.4rem 0 0;padding:0;list-style:none}}
.card li{{border-top:1px solid var(--faint);padding:.35rem 0;max-width:none;overflow-wrap:anywhere}}
.images ol{{display:flex;flex-wrap:wrap;gap:.8rem}}
.images li{{border:0;width:8.2rem;padding:0;font-size:.82rem;line-height:1.35}}
.images img{{display:block;height:112px;margin-bottom:.3rem;border-radius:.25rem}}
.first{{display:flex;flex-wrap:wrap;gap:.2rem .9rem}}
.label{{display:inline-block;border:1px solid var(--faint);border-radius:.6rem;padding:0 .45rem}}
.label{{margin:0 .2rem .1rem 0}}
.shared{{border-color:var(--blue);font-weight:600}}
.asked{{border:1px dashed var(--orange);font-weight:600}}
"""


def page(title: str, body: str) -> str:
    """A whole HTML document, with its style, without any reference to the network."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def picture(figure: Figure, name: str) -> str:
    """A figure as inline SVG whose inks follow the reader's light or dark ground; its title is what is read aloud."""
    import matplotlib

    file = io.StringIO()
    # The salt makes the ids, and so the file, the same every time.
    with matplotlib.rc_context({"svg.hashsalt": "hf-mlcl"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    for colour, (variable, _, _) in _INKS.items():
        svg = re.sub(rf"((?:fill|stroke): ?){colour}\b", rf"\1var(--{variable})", svg, flags=re.IGNORECASE)
    # Ids are unique in a figure, not in a page of several.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{name}-\1"', svg)
    title = escape(" ".join(figure.texts[0].get_text().replace(r"\$", "$").split()), quote=True)
    svg = re.sub(r' width="[^"]*pt" height="[^"]*pt"', "", svg, count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    return f'<figure id="{name}"><div class="scroll">{svg}</div></figure>'


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], text: Sequence[int] = (0,)) -> str:
    """A table that scrolls by itself on a narrow screen; columns `text` are set to the left, numbers to the right."""
    css = [' class="text"' if column in text else "" for column in range(len(heads))]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(css, heads, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{escape(cut(_shown(value), 48))}</td>" for kind, value in zip(css, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def details(summary: str, content: str) -> str:
    """What is shown on demand."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def numbers(values: Sequence[tuple[str, str]]) -> str:
    """A row of large numbers with their names."""
    parts = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values)
    return f'<dl class="numbers">{"".join(parts)}</dl>'


def labels(names: Sequence[str], shared: Sequence[str] = (), asked: str | None = None) -> str:
    """Label names, those in `shared` marked; `asked` is a label whose absence is in question."""
    chips = [f'<span class="label{" shared" * (name in shared)}">{escape(name)}</span>' for name in names]
    if asked is not None:
        chips.append(f'<span class="label asked">{escape(asked)}?</span>')
    return "".join(chips) or '<span class="muted">no label</span>'


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)
