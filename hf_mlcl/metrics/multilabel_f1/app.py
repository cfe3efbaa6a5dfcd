"""Shows the metric as a Space. Imports evaluate only."""

from pathlib import Path

import evaluate
from evaluate.utils import launch_gradio_widget

launch_gradio_widget(evaluate.load(str(Path(__file__).with_name("multilabel_f1.py"))))
