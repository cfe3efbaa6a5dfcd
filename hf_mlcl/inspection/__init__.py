"""Reading a training: hard and confused labels, neighbours, maps, gradients, as numbers, pictures and one report.

Functions on arrays; every `plot_...` returns a matplotlib Figure. `inspect_outputs` does all of it for one split.
"""

from .confusion import Confusions, CoPredictions, co_predictions, confusions
from .gradient_figures import plot_force_parts, plot_forces_by_similarity, plot_pairs, sample_pairs
from .gradients import PairGradients, pair_gradients, summarise_gradients
from .inspector import Inspection, inspect_outputs
from .label_figures import plot_co_predictions, plot_confusions, plot_f1_by_frequency, plot_hardest_labels
from .labels import frequency_groups, hardest_labels, label_difficulty
from .maps import EmbeddingMap, map_embeddings, prototype_fit
from .neighbours import (
    Neighbours,
    isolated_examples,
    nearest_neighbours,
    neighbourhood_purity,
    similarity_histograms,
    to_look_at,
)
from .outputs import Examples, ModelOutputs, collect_outputs, decodable_images
from .report import render_report, write_report
from .space_figures import plot_label_maps, plot_map, plot_purity, plot_similarities

__all__ = [
    "CoPredictions",
    "Confusions",
    "EmbeddingMap",
    "Examples",
    "Inspection",
    "ModelOutputs",
    "Neighbours",
    "PairGradients",
    "co_predictions",
    "collect_outputs",
    "confusions",
    "decodable_images",
    "frequency_groups",
    "hardest_labels",
    "inspect_outputs",
    "isolated_examples",
    "label_difficulty",
    "map_embeddings",
    "nearest_neighbours",
    "neighbourhood_purity",
    "pair_gradients",
    "plot_co_predictions",
    "plot_confusions",
    "plot_f1_by_frequency",
    "plot_force_parts",
    "plot_forces_by_similarity",
    "plot_hardest_labels",
    "plot_label_maps",
    "plot_map",
    "plot_pairs",
    "plot_purity",
    "plot_similarities",
    "prototype_fit",
    "render_report",
    "sample_pairs",
    "similarity_histograms",
    "summarise_gradients",
    "to_look_at",
    "write_report",
]
