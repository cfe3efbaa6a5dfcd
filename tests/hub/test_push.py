"""What is said before anything is sent; the rest of publishing is tested against a Hub in `test_real_client.py`."""

import json
import logging

import pytest

from hf_mlcl.hub import push_folder


@pytest.mark.parametrize("base, warned", [("{folder}", True), ("someone/minilm", False), (None, False)])
def test_an_adapter_on_a_local_encoder_is_warned_of(base, warned, tmp_path, caplog):
    base = base and base.format(folder=tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mlcl"}))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    with caplog.at_level(logging.WARNING, "hf_mlcl"), pytest.raises(ConnectionError):
        push_folder(tmp_path, "someone/model", token="none")
    assert ("the adapter's encoder is a folder" in caplog.text) == warned
