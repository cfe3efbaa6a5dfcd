"""Demonstration data without a download: real handwritten digits on canvases, and a generated corpus.

Imports scikit-learn (for the digits), datasets and transformers.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as PILImage
from sklearn.datasets import load_digits
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .loading import MultiLabelData

_CELL = 20  # pixels of a canvas that one digit may move in
_DIGIT = 16  # side of a digit: the 8 x 8 original at twice its size


def digit_canvases(
    train_size: int = 3000,
    validation_size: int = 500,
    test_size: int = 1000,
    *,
    canvas_size: int = 40,
    imbalance: float = 40.0,
    seed: int = 0,
) -> MultiLabelData:
    """Canvases with several handwritten digits each; the labels are the digits that are on it.

    The digits are the 1,797 real ones of scikit-learn's `load_digits`, enlarged to 16 x 16 and set down at random
    places without overlap. Their frequencies follow a power law: 0 is the commonest, 9 the rarest. The splits
    are drawn from different digit images (70, 15 and 15 % of each class).

    Args:
        train_size, validation_size, test_size: number of canvases of each split.
        canvas_size: side of a canvas in pixels, at least 40; it carries 1 to (canvas_size // 20)^2 digits, at most 4.
        imbalance: how much likelier the commonest digit is than the rarest one, each time a digit is drawn. As several
            digits are drawn for a canvas, the default makes canvases with a 0 about 25 times as many as with a 9.
        seed: the same seed gives the same data.

    Returns:
        splits with `image` (RGB, grey on black) and `labels` (10, named "0" to "9").

    Example:
        >>> digit_canvases(train_size=2, validation_size=1, test_size=1).splits["train"][0]["image"].size
        (40, 40)
    """
    if canvas_size < 2 * _CELL:
        raise ValueError(f"canvas_size must be at least {2 * _CELL} pixels, got {canvas_size}")
    rng = np.random.default_rng(seed)
    digits = load_digits()
    images = np.kron(digits.images * (255 / 16), np.ones((2, 2))).astype(np.uint8)
    pools = []  # for each class the image numbers of train, validation and test
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(digits.target == digit))
        pools.append(np.split(members, [round(0.7 * len(members)), round(0.85 * len(members))]))
    of_split = dict(zip(("train", "validation", "test"), zip(*pools, strict=True), strict=True))
    frequencies = _power_law(10, imbalance)
    splits = _splits(
        (train_size, validation_size, test_size),
        Features({"image": Image(), "labels": List(Value("bool"), length=10)}),
        lambda split: _canvas(images, of_split[split], frequencies, canvas_size, rng),
    )
    return MultiLabelData(splits, [str(digit) for digit in range(10)], "vision", "digit-canvases")


def _splits(sizes: Sequence[int], features: Features, example: Callable[[str], tuple[Any, list[bool]]]) -> DatasetDict:
    """Train, validation and test, of examples that are made one after the other: the input, and its labels."""
    splits = {}
    for name, size in zip(("train", "validation", "test"), sizes, strict=True):
        rows = [example(name) for _ in range(size)]
        columns = {column: [row[number] for row in rows] for number, column in enumerate(features)}
        splits[name] = Dataset.from_dict(columns, features=features)
    return DatasetDict(splits)


def _canvas(
    images: np.ndarray,
    pools: Sequence[np.ndarray],
    frequencies: np.ndarray,
    canvas_size: int,
    rng: np.random.Generator,
) -> tuple[dict[str, bytes | None], list[bool]]:
    """One canvas as PNG bytes, and its multi-hot labels. Each digit lies in a cell of its own, so none overlap."""
    side = canvas_size // _CELL
    drawn = rng.choice(10, size=rng.integers(1, min(4, side * side) + 1), p=frequencies)
    cells = rng.choice(side * side, size=len(drawn), replace=False)
    canvas = np.zeros((canvas_size, canvas_size), dtype=np.uint8)
    for digit, cell in zip(drawn, cells, strict=True):
        top, left = np.array(divmod(int(cell), side)) * (canvas_size // side)
        top, left = (top, left) + rng.integers(0, canvas_size // side - _DIGIT + 1, size=2)
        canvas[top : top + _DIGIT, left : left + _DIGIT] = images[rng.choice(pools[digit])]
    file = io.BytesIO()
    PILImage.fromarray(canvas).convert("RGB").save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": None}, np.isin(np.arange(10), drawn).tolist()


def generated_corpus(
    train_size: int = 3000,
    validation_size: int = 500,
    test_size: int = 1000,
    *,
    num_labels: int = 36,
    num_topics: int = 6,
    imbalance: float = 40.0,
    seed: int = 0,
) -> MultiLabelData:
    """A corpus of made-up words with correlated long-tailed labels.

    Labels belong to topics, and the labels of a text mostly come from one topic. Each label has words of its own, each
    topic has words, and most words are noise: a rare label can be told by few words, and by the company it keeps.

    Args:
        train_size, validation_size, test_size: number of texts of each split.
        num_labels, num_topics: labels are dealt out to topics in turn, so each topic has common and rare ones.
        imbalance: how much likelier the commonest label is than the rarest one (power law).
        seed: the same seed gives the same data.

    Returns:
        splits with `text` and `labels`; label names are "topic/label" in made-up words.

    Example:
        >>> data = generated_corpus(train_size=3, validation_size=1, test_size=1, num_labels=8, num_topics=2)
        >>> len(data.splits["train"]), len(data.label_names)
        (3, 8)
    """
    if not 1 <= num_topics <= num_labels:
        raise ValueError(f"num_topics must be from 1 to {num_labels} (num_labels), got {num_topics}")
    rng = np.random.default_rng(seed)
    words = _made_up_words(num_labels * 6 + num_topics * 12 + 300, rng)
    label_words = [words[6 * label : 6 * label + 6] for label in range(num_labels)]
    words = words[6 * num_labels :]
    topic_words = [words[12 * topic : 12 * topic + 12] for topic in range(num_topics)]
    noise_words = words[12 * num_topics :]
    topic_of = np.arange(num_labels) % num_topics
    frequencies = _power_law(num_labels, imbalance)
    features = Features({"text": Value("string"), "labels": List(Value("bool"), length=num_labels)})

    def example(split: str) -> tuple[str, list[bool]]:
        # The first by its frequency, each other one from the same topic with probability 0.85.
        labels = [int(rng.choice(num_labels, p=frequencies))]
        for _ in range(rng.integers(0, 4)):
            same = (topic_of == topic_of[labels[0]]) | (rng.random() >= 0.85)
            weights = np.where(same, frequencies, 0.0)
            label = int(rng.choice(num_labels, p=weights / weights.sum()))
            labels += [] if label in labels else [label]
        text: list[str] = []
        for label in labels:
            text += rng.choice(label_words[label], size=rng.integers(1, 4)).tolist()
            text += rng.choice(topic_words[topic_of[label]], size=2).tolist()
        text += rng.choice(noise_words, size=rng.integers(8, 20), p=_power_law(len(noise_words), 30)).tolist()
        return " ".join(rng.permutation(text)), np.isin(np.arange(num_labels), labels).tolist()

    splits = _splits((train_size, validation_size, test_size), features, example)
    names = [f"{topic_words[topic_of[label]][0]}/{label_words[label][0]}" for label in range(num_labels)]
    return MultiLabelData(splits, names, "text", "generated-corpus")


def _power_law(size: int, ratio: float) -> np.ndarray:
    """Probabilities float64 (size,) that fall as a power of the rank, the first `ratio` times the last."""
    weights = np.arange(1, size + 1) ** -(np.log(ratio) / np.log(max(size, 2)))
    return weights / weights.sum()


def _made_up_words(number: int, rng: np.random.Generator) -> list[str]:
    """Different pronounceable words of two to four syllables."""
    consonants, vowels = list("bdfgklmnprstvz"), list("aeiou")
    words: dict[str, None] = {}
    while len(words) < number:
        syllables = int(rng.integers(2, 5))
        words["".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(syllables))] = None
    return list(words)


def build_word_tokenizer(
    texts: Iterable[str], *, vocabulary_size: int = 30_000, max_length: int = 512
) -> PreTrainedTokenizerFast:
    """A lower-casing word-level tokenizer over the words of `texts`, for encoders trained from scratch.

    Texts become `[CLS] words [SEP]`; ids 0 to 3 are [PAD], [UNK], [CLS], [SEP], then words by frequency.

    Example:
        >>> build_word_tokenizer(["oil fell"])("Oil fell")["input_ids"]
        [2, 5, 4, 3]
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordLevelTrainer(vocab_size=vocabulary_size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )
