"""A page to try a trained model: labels with scores, nearest training examples, a map. Imports no file of the package.

Self-contained on purpose: `hf-mlcl app --space` copies this file as the `app.py` of a Space, where a folder `model`
and perhaps `index.safetensors` lie beside it and the package is not installed. Imports gradio when a page is built.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

SHOWN_LABELS, SHOWN_NEIGHBOURS, SHOWN_POINTS = 10, 5, 1500
# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLE = """
.mlcl {font-size: 15px; line-height: 1.4; color: var(--body-text-color)}
.mlcl h3 {font-size: 16px; font-weight: 600; margin: 0 0 8px; color: var(--body-text-color)}
.mlcl p, .mlcl .quiet {color: var(--body-text-color); opacity: 0.72}
.mlcl p {margin: 0 0 8px; font-size: 13px}
.mlcl .score {display: grid; grid-template-columns: minmax(96px, 34%) 1fr 100px; gap: 8px; padding: 4px 0;
  align-items: center}
.mlcl .score > :first-child {overflow-wrap: anywhere}
.mlcl .score > :last-child {text-align: right; font-variant-numeric: tabular-nums; font-size: 13px}
.mlcl .bar {position: relative; height: 14px; border-radius: 3px; background: var(--border-color-primary)}
.mlcl .bar i {display: block; height: 100%; border-radius: 3px; background: #9aa5b1}
.mlcl .given .bar i {background: #0072b2}
.mlcl .given > :first-child {font-weight: 600}
.mlcl .bar b {position: absolute; top: -3px; height: 20px; width: 2px; background: var(--body-text-color)}
.mlcl .near {display: flex; gap: 12px; padding: 8px 0; border-top: 1px solid var(--border-color-primary)}
.mlcl .near img {width: 96px; height: 96px; object-fit: contain; flex: none}
.mlcl .near > :first-child {flex: none; width: 40px; font-variant-numeric: tabular-nums; font-size: 13px}
.mlcl .near div {overflow-wrap: anywhere; min-width: 0}
.mlcl .text {display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden}
.mlcl .tag {display: inline-block; padding: 0 7px; margin: 4px 4px 0 0; border-radius: 9px; font-size: 12px;
  border: 1px solid var(--border-color-primary)}
.mlcl .common {border-color: #0072b2; background: #0072b2; color: #fff}
.mlcl svg {width: 100%; height: auto; max-height: 460px; display: block}
.mlcl .key span {display: inline-block; margin: 0 12px 4px 0; font-size: 13px}
.mlcl .key i {display: inline-block; width: 9px; height: 9px; border-radius: 5px; margin-right: 5px}
"""


class Page:
    """What a page shows for one input, as pieces of HTML, and the page itself.

    Args:
        model: A fitted model.
        processor: Its tokenizer or image processor.
        index: File of training examples, see `hf_mlcl.hub.write_index`; without one there are labels only.
        name: The heading.
    """

    def __init__(self, model: Any, processor: Any, index: str | Path | None = None, name: str = "") -> None:
        self.model, self.processor, self.name = model.eval(), model.limit_tokens(processor), name
        self.labels = model.config.label_names
        limits = model.config.thresholds
        self.thresholds = np.array([0.5] * len(self.labels) if limits is None else limits)
        self.index: dict[str, Any] = {}
        if index is not None:
            with safe_open(str(index), "numpy") as file:
                self.index = {key: file.get_tensor(key) for key in file.keys()} | file.metadata()  # noqa: SIM118
            self.index["inputs"] = json.loads(self.index["inputs"].tobytes())
            self.index["vectors"] = self.index["vectors"].astype(np.float32)

    @classmethod
    def load(cls, folder: str | Path) -> Page:
        """The page of a folder with `model` and perhaps `index.safetensors`, as `hf-mlcl app --space` writes it."""
        folder, trust = Path(folder), {"trust_remote_code": True}  # the code that was saved with the model
        config = AutoConfig.from_pretrained(folder / "model", **trust)
        text = config.task == "text"
        auto: Any = AutoModelForSequenceClassification if text else AutoModelForImageClassification
        loader: Any = AutoTokenizer if text else AutoImageProcessor
        index = folder / "index.safetensors"
        return cls(
            auto.from_pretrained(folder / "model", **trust),
            loader.from_pretrained(folder / "model", **trust),
            index if index.exists() else None,
            json.loads((folder / "page.json").read_text(encoding="utf-8"))["name"],
        )

    def answer(self, given: Any, pair: str | None = None) -> tuple[str, str, str]:
        """Labels, nearest training examples and map, as HTML, of a text (and its second text) or an image's path."""
        if given is None or (isinstance(given, str) and not given.strip()):
            return _piece("Labels", "<p>Nothing given yet.</p>"), "", ""
        if not self.images:
            inputs = self.processor(given, *([pair or ""] if self.pairs else []), truncation=True, return_tensors="pt")
        else:
            try:
                image = self.model.read_image(given)  # as in training
            except Exception as error:  # PIL raises many types on damaged files
                return _piece("Labels", f"<p>Not an image that can be read: {html.escape(str(error))}</p>"), "", ""
            inputs = {"pixel_values": self.processor([image], return_tensors="pt")["pixel_values"]}
        with torch.inference_mode():
            output = self.model(**{name: value.to(self.model.device) for name, value in inputs.items()})
        scores = output.logits[0].double().sigmoid().cpu().numpy()
        if not self.index:
            return self._scores(scores), "", ""
        vector = getattr(output, self.index["space"])[0].float().cpu().numpy()
        vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
        near = self.index["vectors"] @ vector
        nearest = np.argsort(-near, kind="stable")[:SHOWN_NEIGHBOURS]
        return self._scores(scores), self._nearest(near, nearest, scores), self._map(vector, nearest)

    @property
    def pairs(self) -> bool:
        """Whether an input is a pair of texts."""
        return bool(self.model.config.text_pairs)

    def _scores(self, scores: np.ndarray) -> str:
        given = scores >= self.thresholds
        shown = np.lexsort((-scores, ~given))[: max(SHOWN_LABELS, int(given.sum()))]
        rows = [
            f'<div class="score{" given" if given[label] else ""}"><span>{html.escape(self.labels[label])}</span>'
            f'<span class="bar"><i style="width: {100 * scores[label]:.1f}%"></i>'
            f'<b style="left: {100 * self.thresholds[label]:.1f}%"></b></span>'
            f'<span>{scores[label]:.3f}<span class="quiet"> / {self.thresholds[label]:.3f}</span></span></div>'
            for label in shown
        ]
        count = int(given.sum())
        title = f"{count or 'No'} label{'' if count == 1 else 's'}"
        note = (
            f"Score / threshold; a label is given where its bar reaches the line. {len(shown)} of {len(scores)} shown."
        )
        return _piece(title, f"<p>{note}</p>{''.join(rows)}")

    def _nearest(self, near: np.ndarray, nearest: np.ndarray, scores: np.ndarray) -> str:
        rows = []
        for row in nearest:
            shown = self.index["inputs"][row]
            tags = "".join(
                f'<span class="tag{" common" if scores[label] >= self.thresholds[label] else ""}">'
                f"{html.escape(self.labels[label])}</span>"
                for label in np.flatnonzero(self.index["labels"][row])
            )
            if self.images:
                what = f'<img alt="" src="data:image/jpeg;base64,{html.escape(shown)}"><div>{tags}</div>'
            else:
                what = f'<div><div class="text">{html.escape(shown)}</div>{tags}</div>'
            rows.append(f'<div class="near"><span>{near[row]:.3f}</span>{what}</div>')
        note = f"Cosine similarity among {len(near):,} training examples; filled: labels that are given to yours."
        return _piece("Nearest training examples", f"<p>{note}</p>{''.join(rows)}")

    @property
    def images(self) -> bool:
        """Whether the inputs are images."""
        return self.model.config.task == "vision"

    def _map(self, vector: np.ndarray, nearest: np.ndarray) -> str:
        points, labels = self.index["points"], self.index["labels"]
        here = (vector - self.index["centre"]) @ self.index["axes"]
        low, high = np.minimum(points.min(0), here), np.maximum(points.max(0), here)
        size = np.array([640.0, 440.0])

        def place(point: np.ndarray) -> str:
            x, y = 12 + (point - low) / np.maximum(high - low, 1e-9) * (size - 24)
            return f'cx="{x:.1f}" cy="{size[1] - y:.1f}"'

        counts = labels.sum(0, dtype=np.int64)
        coloured = [int(label) for label in np.argsort(-counts, kind="stable")[: len(COLOURS)] if counts[label]]
        colours = np.full(len(points), "#9aa5b1", dtype=object)
        for label in coloured:  # the rarest of an example's labels is painted last
            colours[labels[:, label] > 0] = COLOURS[coloured.index(label)]
        drawn = np.random.default_rng(0).permutation(len(points))[:SHOWN_POINTS]
        circles = [f'<circle {place(points[row])} r="3" fill="{colours[row]}" opacity="0.55"/>' for row in drawn]
        ring = 'fill="none" stroke="currentColor" stroke-width="1.5"'
        circles += [f'<circle {place(points[row])} r="6" {ring}/>' for row in nearest]
        circles.append(f'<circle {place(here)} r="8" fill="currentColor" stroke="#fff" stroke-width="2"/>')
        key = "".join(
            f'<span><i style="background: {colour}"></i>{html.escape(self.labels[label])}</span>'
            for label, colour in zip(coloured, COLOURS, strict=False)
        )
        note = (
            f"{len(drawn):,} training examples on their two principal axes, coloured by the most frequent labels. "
            "Large dot: your input; rings: its nearest examples, perhaps far apart here, as only two axes are shown."
        )
        picture = f'<svg viewBox="0 0 640 440" role="img" aria-label="Map of the embeddings">{"".join(circles)}</svg>'
        return _piece("Map", f'<p>{note}</p><div class="key">{key}</div>{picture}')

    def build(self) -> Any:
        """The page as `gradio.Blocks`.

        Raises:
            ImportError: Gradio is missing.
        """
        gradio = gradio_package()
        with gradio.Blocks(title=self.name, analytics_enabled=False) as blocks:
            gradio.Markdown(f"## {html.escape(self.name)}")
            with gradio.Row():
                with gradio.Column(scale=2):
                    if self.images:
                        # The file as it is: Gradio itself would drop transparency and clip 16 bits.
                        inputs = [gradio.Image(type="filepath", image_mode=None, label="Image", height=320)]
                    else:
                        inputs = [gradio.Textbox(label="Text", lines=6, placeholder="Paste or type a text")]
                    if self.pairs:
                        inputs.append(gradio.Textbox(label="Second text", lines=4))
                    button = gradio.Button("Label it", variant="primary")
                with gradio.Column(scale=3):
                    scores = gradio.HTML(self.answer(None)[0])
            with gradio.Row():
                with gradio.Column():
                    nearest = gradio.HTML()
                with gradio.Column():
                    drawing = gradio.HTML()
            outputs = [scores, nearest, drawing]
            button.click(self.answer, inputs, outputs, api_name="label")
        return blocks

    def launch(self, **options: Any) -> Any:
        """Serves the page; host and port are those of GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""
        fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # none to fetch
        theme = gradio_package().themes.Default(**fonts)
        return self.build().launch(theme=theme, css=STYLE, footer_links=[], **options)


def gradio_package() -> Any:
    """The package gradio; ImportError in one line where it is absent."""
    try:
        import gradio
    except ImportError as error:
        raise ImportError("the page needs the package gradio: pip install 'hf-mlcl[app]'") from error
    return gradio


def _piece(title: str, content: str) -> str:
    return f'<div class="mlcl"><h3>{html.escape(title)}</h3>{content}</div>'


if __name__ == "__main__":
    Page.load(Path(__file__).parent).launch()
