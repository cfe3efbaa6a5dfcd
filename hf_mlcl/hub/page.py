"""A page to try a trained model: labels with scores, nearest training examples, a map. Imports no file of the package.

Self-contained on purpose: `hf-mlcl app --space` copies this file as the `app.py` of a Space, where a folder `model`
and perhaps `index.safetensors` lie beside it and the package is not installed. Imports gradio when a page is built.
"""

from __future__ import annotations

import html
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

SHOWN_LABELS, SHOWN_NEIGHBOURS, HOVER = 10, 5, 80  # HOVER: characters of a text
SHOWN_POINTS, SHOWN_IMAGES = 1500, 500  # on the map; what the mouse shows of them goes with every answer
INPUT, NEAREST, OTHERS = "your input", "nearest", "other labels"
# Okabe and Ito's colours, which colour-blind readers can tell apart, and which show on white and on dark grey.
COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9")
MARKS = {OTHERS: "#9aa5b1", NEAREST: "#e69f00", INPUT: "#d55e00"}


class Page:
    """What a page shows for one input, and the page itself.

    Args:
        model: A fitted model.
        processor: Its tokenizer or image processor.
        index: File of training examples, see `hf_mlcl.hub.space.write_index`; without one there are labels only.
        name: The heading.
    """

    def __init__(self, model: Any, processor: Any, index: str | Path | None = None, name: str = "") -> None:
        self.model, self.processor, self.name = model.eval(), model.limit_tokens(processor), name
        self.labels = model.config.label_names
        limits = model.config.thresholds
        self.thresholds = np.array([0.5] * len(self.labels) if limits is None else limits)
        self.images, self.pairs = model.config.task == "vision", bool(model.config.text_pairs)
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

    def answer(self, given: Any, pair: str | None = None) -> tuple[list[list[Any]], list[Any], pd.DataFrame | None]:
        """What the page shows of a text (and its second text) or an image's path.

        Returns:
            Rows of label, score, threshold and whether the label is given; the nearest training examples, as rows of
            similarity, labels and text or image (as an HTML element); and the points of the map. The last two are
            empty without an index.

        Raises:
            ValueError: Nothing is given, or an image that cannot be read.
        """
        if given is None or (isinstance(given, str) and not given.strip()):
            raise ValueError("nothing is given yet")
        if not self.images:
            inputs = self.processor(given, *([pair or ""] if self.pairs else []), truncation=True, return_tensors="pt")
        else:
            try:
                image = self.model.read_image(given)  # as in training
            except Exception as error:  # PIL raises many types on damaged files
                raise ValueError(f"not an image that can be read: {error}") from error
            inputs = {"pixel_values": self.processor([image], return_tensors="pt")["pixel_values"]}
        with torch.inference_mode():
            output = self.model(**{name: value.to(self.model.device) for name, value in inputs.items()})
        scores = output.logits[0].double().sigmoid().cpu().numpy()
        decided = scores >= self.thresholds
        shown = np.lexsort((-scores, ~decided))[: max(SHOWN_LABELS, int(decided.sum()))]
        rows = [
            [
                self.labels[label],
                round(float(scores[label]), 3),
                round(float(self.thresholds[label]), 3),
                "✓" if decided[label] else "",
            ]
            for label in shown
        ]
        if not self.index:
            return rows, [], None
        vector = getattr(output, self.index["space"])[0].float().cpu().numpy()
        vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
        similarities = self.index["vectors"] @ vector
        nearest = np.argsort(-similarities, kind="stable")[:SHOWN_NEIGHBOURS]
        examples: list[Any] = []
        for row in nearest:
            names = ", ".join(self.labels[label] for label in np.flatnonzero(self.index["labels"][row]))
            example = self.index["inputs"][row]
            if self.images:
                example = f'<img alt="" src="data:image/jpeg;base64,{example}">'
            examples.append([round(float(similarities[row]), 3), names, example])
        return rows, examples, self._map(vector, nearest)

    def _map(self, vector: np.ndarray, nearest: np.ndarray) -> pd.DataFrame:
        labels = self.index["labels"]
        kinds = np.full(len(labels), OTHERS, dtype=object)
        for label in self._coloured():  # the rarest of an example's labels counts
            kinds[labels[:, label] > 0] = self.labels[label]
        drawn = np.random.default_rng(0).permutation(len(labels))[: SHOWN_IMAGES if self.images else SHOWN_POINTS]
        here = (vector - self.index["centre"]) @ self.index["axes"]
        points = np.concatenate([self.index["points"][drawn], self.index["points"][nearest], here[None]])
        frame = pd.DataFrame(points.astype(np.float64).round(5), columns=["x", "y"])
        frame["label"] = [*kinds[drawn], *[NEAREST] * len(nearest), INPUT]
        inputs = [self.index["inputs"][row] for row in (*drawn, *nearest)]
        if self.images:  # a column of this name is shown as an image
            frame["image"] = [*(f"data:image/jpeg;base64,{image}" for image in inputs), ""]
        else:
            frame["text"] = [*(text[:HOVER] for text in inputs), ""]
        return frame

    def _coloured(self) -> list[int]:
        """The most frequent labels, which have a colour of their own on the map."""
        counts = self.index["labels"].sum(0, dtype=np.int64)
        return [int(label) for label in np.argsort(-counts, kind="stable")[: len(COLOURS)] if counts[label]]

    def build(self) -> Any:
        """The page as `gradio.Blocks`.

        Raises:
            ImportError: Gradio is missing.
        """
        gradio = gradio_package()
        table = partial(gradio.Dataframe, interactive=False, wrap=True)

        def answer(*given: Any) -> Any:
            try:
                return self.answer(*given)[: len(outputs)]
            except ValueError as error:
                raise gradio.Error(str(error)) from error

        with gradio.Blocks(title=self.name, analytics_enabled=False) as blocks:
            gradio.Markdown(f"## {self.name}", sanitize_html=True)
            with gradio.Row():
                with gradio.Column(scale=2):
                    if self.images:
                        # The file as it is: Gradio itself would drop transparency and clip 16 bits.
                        inputs = [gradio.Image(type="filepath", image_mode=None, label="Image", height=320)]
                    else:
                        inputs = [gradio.Textbox(label="Text", lines=6, placeholder="Paste or type a text")]
                    if self.pairs:
                        inputs.append(gradio.Textbox(label="Second text", lines=4))
                    button = gradio.Button("Predict labels", variant="primary")
                with gradio.Column(scale=3):
                    heads = ["label", "score", "threshold", "given"]
                    widths = ["32%", "19%", "29%", "20%"]
                    outputs = [table(headers=heads, label="Labels", max_height=2000, column_widths=widths)]
            if self.index:
                title = f"Nearest of {len(self.index['labels']):,} training examples, by cosine similarity"
                heads, kind = (
                    ["cosine", "labels", "image" if self.images else "text"],
                    "html" if self.images else "str",
                )
                options: dict[str, Any] = {"datatype": ["number", "str", kind], "column_widths": ["21%", "34%", "45%"]}
                outputs.append(table(headers=heads, label=title, max_height=2000, **options))
                colours = MARKS | dict(zip([self.labels[one] for one in self._coloured()], COLOURS, strict=False))
                # Not the plot's own title and legend: it cuts them off.
                dot = '<span style="color: {}">●</span>&nbsp;{}'
                legend = " ".join(dot.format(colour, html.escape(name)) for name, colour in colours.items())
                gradio.HTML(
                    "Training examples on their two principal axes; your input and its nearest may be far apart here"
                    f"<br>{legend}"
                )
                options = {"color_map": colours, "colors_in_legend": [], "show_label": False, "height": 400}
                options |= {"x_title": "first principal axis", "y_title": "second principal axis"}
                options |= {"x_axis_format": "~g", "y_axis_format": "~g"}  # 0.50 as 0.5, or the first two touch
                options["tooltip"] = ["label", "image" if self.images else "text"]
                outputs.append(gradio.ScatterPlot(x="x", y="y", color="label", **options))
            button.click(answer, inputs, outputs, api_name="label")
        return blocks

    def launch(self, **options: Any) -> Any:
        """Serves the page; host and port are those of GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""
        fonts = dict.fromkeys(("font", "font_mono"), ["system-ui", "sans-serif"])  # none to fetch
        return self.build().launch(theme=gradio_package().themes.Default(**fonts), footer_links=[], **options)


def gradio_package() -> Any:
    """The package gradio; ImportError in one line where it is absent."""
    try:
        import gradio
    except ImportError as error:
        raise ImportError("the page needs the package gradio: pip install 'hf-mlcl[app]'") from error
    return gradio


if __name__ == "__main__":
    Page.load(Path(__file__).parent).launch()
