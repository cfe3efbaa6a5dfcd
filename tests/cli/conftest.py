"""Tiny encoders and datasets on disk, as a user has them."""

import pytest
from tiny import save_image_encoder, save_images, save_text_encoder, save_texts


@pytest.fixture(scope="session")
def text_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    save_texts(folder)
    return folder


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory, text_data):
    folder = tmp_path_factory.mktemp("bert")
    save_text_encoder(folder, (text_data / "train.csv").read_text().splitlines())
    return folder


@pytest.fixture(scope="session")
def image_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    save_images(folder, train=64, validation=24)
    return folder


@pytest.fixture(scope="session")
def image_encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet")
    save_image_encoder(folder)
    return folder
