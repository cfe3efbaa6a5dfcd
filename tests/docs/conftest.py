"""What stands in the place of the words in the guides: tiny encoders and datasets on disk."""

import pytest
from tiny import save_image_encoder, save_images, save_text_encoder, save_texts

NAMES = ["grain", "wheat", "crude", "trade", "interest", "ship"]


@pytest.fixture(scope="session")
def substitutes(tmp_path_factory):
    """Word in a guide -> what it is here. A guide that needs another word fails until it has an entry."""
    folder = tmp_path_factory.mktemp("guides")
    places = {name: folder / name for name in ("texts", "images", "text-encoder", "image-encoder")}
    for place in places.values():
        place.mkdir()
    save_texts(places["texts"], NAMES)
    save_images(places["images"], train=80, validation=24, test=16)
    texts = (places["texts"] / "train.csv").read_text().splitlines()
    save_text_encoder(places["text-encoder"], [*NAMES, *texts], max_length=128)
    save_image_encoder(places["image-encoder"])
    words = {
        "path/or/hub-id": "texts",
        "sentence-transformers/all-MiniLM-L6-v2": "text-encoder",
        "IMAGE_ENCODER": "image-encoder",
        "IMAGES": "images",
        "ENCODER": "text-encoder",
        "DATASET": "texts",
        "photo.jpg": "images/test/0.png",
    }
    return {word: str(folder / place) for word, place in words.items()}
