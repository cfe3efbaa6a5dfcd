"""An ONNX file with matrices of 8-bit integers. Imports onnx and onnxruntime when something is quantized."""

from __future__ import annotations

from pathlib import Path

BLOCK = 32  # rows of a matrix, or entries of a token, that share one scale


def quantize_matrices(source: Path, target: Path, kept: tuple[str, ...], large: bool) -> int:
    """Writes `source` to `target` with 8-bit matrices; returns how many matrix products were really quantized.

    ONNX Runtime's `MatMulNBits`: of each matrix, blocks of 32 entries of a column share a scale, and so do, while the
    model runs, blocks of 32 entries of what it is multiplied with. Dynamic quantization with one scale for all tokens
    of a batch (`quantize_dynamic`) runs faster, but moves probabilities five times as far: see
    benchmarks/README.md.

    Args:
        source: ONNX file in float32.
        target: where to write, in another folder.
        kept: matrices whose names begin with one of these stay in float32.
        large: whether weights go to a file beside `target`.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    model = ONNXModel(onnx.load(source))
    model.replace_gemm_with_matmul()  # A W + b as a product and a sum
    heads = [node.name for node in model.nodes() if node.op_type == "MatMul" and node.input[1].startswith(kept)]
    # Accuracy level 4: products of integers, not of numbers in float32 made from them.
    config = DefaultWeightOnlyQuantConfig(
        bits=8, block_size=BLOCK, is_symmetric=True, accuracy_level=4, op_types_to_quantize=("MatMul",)
    )
    quantizer = MatMulNBitsQuantizer(model.model, nodes_to_exclude=heads, algo_config=config)
    quantizer.process()
    quantizer.model.save_model_to_file(str(target), use_external_data_format=large)
    done = onnx.load(target, load_external_data=False).graph
    return sum(node.op_type == "MatMulNBits" for node in done.node)
