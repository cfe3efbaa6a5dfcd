"""What importing the package loads, and that its models are known to transformers whatever is imported first."""

import subprocess
import sys
from pathlib import Path

import pytest

SAVED = Path(__file__).resolve().parent / "saved"
MODEL = f"print(type(AutoModelForSequenceClassification.from_pretrained('{SAVED / 'text'}')).__module__)"
AUTO = "from transformers import AutoModelForSequenceClassification"


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize(("folder", "left_out"), [
    ("losses", {"transformers", "datasets", "accelerate", "sklearn", "scipy", "pandas", "pyarrow"}),
    ("metrics", {"transformers", "accelerate", "peft"}),
])  # fmt: skip
def test_arrays_and_losses_load_no_models(folder, left_out):
    loaded = run(f"import sys, hf_mlcl.{folder}; print(*{{name.partition('.')[0] for name in sys.modules}})").split()
    assert not left_out & set(loaded)


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [
        (["--help"], {"torch", "transformers", "datasets", "numpy"}),
        (["losses"], {"transformers", "datasets", "sklearn", "pandas"}),
    ],
)
def test_small_commands_load_little(arguments, left_out):
    code = f"import sys, hf_mlcl.cli; sys.argv[1:] = {arguments}\ntry: hf_mlcl.cli.main()\nexcept SystemExit: pass\n"
    loaded = run(code + "print(*sys.modules)").splitlines()[-1].split()
    assert "hf_mlcl.cli" in loaded and not left_out & set(loaded)


def test_a_start_says_nothing():
    code = "import hf_mlcl.cli.train, hf_mlcl.cli.inspect, hf_mlcl.training, hf_mlcl.hub"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "code",
    [
        f"import hf_mlcl; {AUTO}; {MODEL}",
        f"{AUTO}; import hf_mlcl; {MODEL}",
        f"from hf_mlcl import MLCLForSequenceClassification; {AUTO}; {MODEL}",
        f"from hf_mlcl import MLCLConfig; {AUTO}; {MODEL}",
        f"import hf_mlcl.hub; {AUTO}; {MODEL}",
        f"import hf_mlcl.models.pipelines; {AUTO}; {MODEL}",
        f"import hf_mlcl.training; {AUTO}; {MODEL}",
    ],
)
def test_models_are_known_in_every_order(code):
    assert run(code) == "hf_mlcl.models.modeling_mlcl"


@pytest.mark.parametrize("first", ["import hf_mlcl", "from transformers import pipeline", "import hf_mlcl.models"])
def test_pipelines_and_configurations_are_known(first):
    code = f"{first}; import hf_mlcl; from transformers import AutoConfig, pipeline; "
    code += f"print(AutoConfig.from_pretrained('{SAVED / 'text'}').model_type, "
    code += f"type(pipeline('text-classification', model='{SAVED / 'text'}')).__name__)"
    assert run(code) == "mlcl MLCLTextPipeline"
