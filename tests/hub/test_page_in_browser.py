"""`hf-mlcl app` as a person uses it, in a headless Chromium, and under 200 requests at once."""

import os
import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path

import pytest
from gradio_client import Client
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from tiny import save_image_encoder, save_images, save_text_encoder, save_texts
from transformers import AutoModel

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.data import load_multilabel_dataset
from hf_mlcl.hub import Page

pytestmark = pytest.mark.slow
REQUESTS, PATIENCE = 200, 300  # at once; seconds, for busy machines
MARGIN = 64  # MiB for 400 requests; of each gradio keeps about 30 KiB for a while
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@contextmanager
def served(folder, model, processor, data):
    """Saves the model and serves it: the address, the process, and the page that it should be."""
    model.config.classifier_fitted, model.config.thresholds = True, [0.5] * model.config.num_labels
    model.save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    command = [sys.executable, "-u", "-m", "hf_mlcl", "app", str(folder), "--dataset", str(data)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    with subprocess.Popen(command, **options) as process:
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if "Running on" in line:
                    break
            else:
                pytest.fail("".join(said))
            page = Page(model, processor, folder / "app" / "index.safetensors", folder.name)
            yield f"http://127.0.0.1:{port}", process.pid, page
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def text_page(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("texts")
    names = ["<b>bold</b>", "a name of a label that is long", "with_underscores_and_not_a_single_space_in_it", *"cde"]
    save_texts(data, names=names)
    loaded = load_multilabel_dataset(str(data), task="text")
    tokenizer = save_text_encoder(folder, loaded.splits["train"]["text"])
    encoder = AutoModel.from_pretrained(folder)
    model = MLCLForSequenceClassification.from_encoder(encoder, labels=loaded.label_names, pooling="mean")
    with served(folder, model, tokenizer, data) as served_page:
        yield *served_page, loaded.splits["train"]["text"]


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
        options.add_argument(f"--{option}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()


def wait(browser, condition):
    return WebDriverWait(browser, PATIENCE).until(condition)


def open_page(browser, address, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)


def predicted(browser, expected):
    """Presses the button and waits for the rows that are expected; nothing may reach beyond the window."""
    browser.find_element(By.XPATH, "//button[contains(., 'Predict labels')]").click()
    labels, nearest, _ = expected
    rows = [f"{name} {score:g} {limit:g} {given}".strip() for name, score, limit, given in labels]
    rows += [f"{similarity:g} {names}".strip() for similarity, names, _ in nearest]

    def all_shown(browser):
        shown = " ".join(browser.execute_script("return document.body.innerText").split())
        return all(row in shown for row in rows)

    wait(browser, all_shown)
    wait(browser, lambda browser: browser.find_elements(By.CSS_SELECTOR, ".vega-embed canvas, .vega-embed svg"))
    beyond = """return [...document.querySelectorAll('body *')]
        .filter(e => !e.children.length && e.innerText?.trim() && e.checkVisibility({visibilityProperty: true}))
        .filter(e => e.getBoundingClientRect().right > innerWidth)"""
    wait(browser, lambda browser: not browser.execute_script(beyond))  # the tables are laid out once more


@pytest.mark.parametrize("width", [1280, 390])
def test_a_text_gets_labels_scores_thresholds_and_nearest_examples(text_page, browser, width):
    address, _, page, texts = text_page
    open_page(browser, address, width)
    wait(browser, lambda browser: browser.find_elements(By.TAG_NAME, "textarea"))[0].send_keys(texts[0])
    predicted(browser, page.answer(texts[0]))
    assert not browser.find_elements(By.XPATH, "//b[.='bold']")  # the name of a label is no HTML


def test_images_with_transparency_and_orientation_are_read_as_in_training(browser, tmp_path):
    (tmp_path / "data").mkdir()
    save_images(tmp_path / "data", train=20, validation=1)
    names = load_multilabel_dataset(str(tmp_path / "data"), task="vision").label_names
    processor = save_image_encoder(tmp_path / "model")
    encoder = AutoModel.from_pretrained(tmp_path / "model")
    model = MLCLForImageClassification.from_encoder(encoder, labels=names)
    Image.linear_gradient("L").resize((60, 40)).convert("RGBA").save(tmp_path / "upright.png")
    picture = Image.open(tmp_path / "upright.png")
    picture.putalpha(90)
    picture.save(tmp_path / "transparent.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    picture.convert("RGB").save(tmp_path / "turned.jpg", exif=turned)
    with served(tmp_path / "model", model, processor, tmp_path / "data") as (address, _, page):
        answers = [page.answer(str(tmp_path / name)) for name in ("upright.png", "transparent.png", "turned.jpg")]
        assert len({str(labels) for labels, *_ in answers}) == 3  # each would be seen if it were dropped
        for name, expected in zip(("transparent.png", "turned.jpg"), answers[1:], strict=True):
            open_page(browser, address, 390)
            field = "input[type=file]"
            wait(browser, lambda browser, field=field: browser.find_elements(By.CSS_SELECTOR, field))
            browser.find_element(By.CSS_SELECTOR, field).send_keys(str(tmp_path / name))
            wait(browser, lambda browser: browser.find_elements(By.CSS_SELECTOR, "img[src*='/file=']"))
            predicted(browser, expected)
            pictures = "return [...document.querySelectorAll('img[src^=data]')].filter(one => one.naturalWidth == 40)"
            assert len(browser.execute_script(pictures)) >= len(expected[1])


def test_two_hundred_requests_at_once_are_all_answered_in_the_same_memory(text_page):
    address, process, page, texts = text_page
    client = Client(address, verbose=False, max_workers=REQUESTS, httpx_kwargs={"timeout": PATIENCE})
    expected = [list(map(list, page.answer(text)[0])) for text in texts]

    def answer(job, text):
        try:
            return job.result(timeout=PATIENCE)[0]["data"]
        except CancelledError:  # gradio's client ends its stream between two events, on a busy machine too early
            return client.submit(text, api_name="/label").result(timeout=PATIENCE)[0]["data"]

    def round_of_requests():
        asked = [texts[one % len(texts)] for one in range(REQUESTS)]
        jobs = [client.submit(text, api_name="/label") for text in asked]
        for one, (job, text) in enumerate(zip(jobs, asked, strict=True)):
            assert answer(job, text) == expected[one % len(texts)]
        kibibytes = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]
        return int(kibibytes) / 1024

    used = [round_of_requests() for _ in range(3)]
    print("MiB after each round:", *map(round, used))
    assert used[2] - used[0] < MARGIN
