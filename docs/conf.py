"""Sphinx configuration: `pip install -e ".[docs]"`, then `sphinx-build -W docs docs/_build/html`. Needs no network."""

import dataclasses
import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import hf_mlcl

project = "hf_mlcl"
author = "The hf_mlcl authors"
copyright = f"2026, {author}"
version = release = hf_mlcl.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"hf_mlcl {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False  # those of transformers and torch are not written for these pages
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Result", ("Added keys", "params_style"), ("Args of a call", "params_style")]

# Docstrings mark code as Markdown does.
default_role = "code"
# What begins with our name has to resolve; of other packages there is no inventory here, as building needs no network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!hf_mlcl\.).*"), ("py:class", r"hf_mlcl\..*\.Split")]  # the latter a TypeVar


def escape_docstring(app, what, name, obj, options, lines):
    """Takes |x|, a*b and Y_ outside of code for text, where reStructuredText has marks of its own."""
    text = "\n".join(lines)
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"(?<!\*)\*(?!\*)|\||(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")
    if what == "class":  # a loss's class says what calling it returns; Sphinx would add what its __init__ returns
        lines[:] = ["Result:" if line == "Returns:" else line for line in lines]


def describe_fields(app, what, name, obj, options, lines):
    """Adds to an arguments' class its own fields, with the help texts that the command line shows."""
    if what != "class" or not dataclasses.is_dataclass(obj):
        return
    fields = [field for field in dataclasses.fields(obj) if field.name in vars(obj).get("__annotations__", {})]
    if not any("help" in field.metadata for field in fields):
        return
    lines += ["", "Args:"]
    for field in fields:
        text = field.metadata["help"]
        default = "" if "Default:" in text or field.default is dataclasses.MISSING else f" Default: `{field.default}`."
        lines.append(f"    {field.name}: {text}{default}")


def shorten_signature(app, what, name, obj, options, signature, return_annotation):
    """Leaves out of a signature the hundred fields that a class inherits from transformers."""
    return ("(**fields)", None) if what == "class" and len(signature or "") > 2000 else None


def visit_math(self, node):
    """Formulas as MathML, which browsers draw themselves: no script, no fonts to load."""
    block = isinstance(node, nodes.math_block)
    markup = tex2mathml(node.astext(), as_block=block)
    self.body.append(f'<div class="math">{markup}</div>' if block else markup)
    raise nodes.SkipNode


def setup(app):
    # Napoleon reads the docstring after these.
    app.connect("autodoc-process-docstring", escape_docstring, priority=100)
    app.connect("autodoc-process-docstring", describe_fields, priority=200)
    app.connect("autodoc-process-signature", shorten_signature)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    return {"parallel_read_safe": True}
