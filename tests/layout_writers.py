"""Writes a network's weights as other programs do: one function per layout, each makes
files in a folder and returns nothing."""

import json
from pathlib import Path

import gguf
import torch
from safetensors.torch import save_file

from tests.authors_names import prefixed


def is_linear(name, tensor):
    """What is packed into fewer bits: the blocks' linear layers."""
    return "blocks." in name and name.endswith(".weight") and tensor.ndim == 2


def write_single(tensors, folder):
    save_file(tensors, folder / "model_v1.safetensors")


def write_prefixed(prefix):
    def write(tensors, folder):
        write_single(prefixed(prefix, tensors), folder)

    return write


def write_in_parts(tensors, folder):
    """With the index that says which part has which tensor."""
    names = sorted(tensors)
    cut = len(names) // 3
    parts = [names[:cut], names[cut : 2 * cut], names[2 * cut :]]
    weight_map = {}
    for number, part in enumerate(parts, start=1):
        file = f"diffusion_pytorch_model-{number:05d}-of-00003.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))


def to_fp8(tensor):
    """In eight-bit floats that use their whole range, and the scale to undo it."""
    scale = tensor.abs().max().clamp(min=1e-12) / 448
    return (tensor / scale).to(torch.float8_e4m3fn), scale


def write_scaled_fp8(tensors, folder):
    """As ComfyUI's first scaled files have it."""
    written = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, tensor in tensors.items():
        if not is_linear(name, tensor):
            written[name] = tensor
            continue
        module = name.removesuffix(".weight")
        written[name], scale = to_fp8(tensor)
        written[f"{module}.scale_weight"] = scale.reshape(1)
        written[f"{module}.scale_input"] = torch.ones(1)
    write_single(prefixed("model.diffusion_model.", written), folder)


def write_weight_scale_fp8(tensors, folder):
    """As its later files have it."""
    written = {}
    note = json.dumps({"format": "float8_e4m3fn"}).encode()
    for name, tensor in tensors.items():
        if not is_linear(name, tensor):
            written[name] = tensor
            continue
        module = name.removesuffix(".weight")
        written[name], written[f"{module}.weight_scale"] = to_fp8(tensor)
        written[f"{module}.input_scale"] = torch.ones(())
        written[f"{module}.comfy_quant"] = torch.tensor(list(note), dtype=torch.uint8)
    write_single(written, folder)


def to_int8(tensor):
    """Each row in 256 steps, as quanto does it; the scale in bfloat16."""
    scale = (tensor.abs().amax(dim=1, keepdim=True) / 127).to(torch.bfloat16)
    scale = scale.clamp(min=1e-12)
    return (tensor / scale.float()).round().clamp(-128, 127).to(torch.int8), scale


def write_quanto_int8(tensors, folder):
    """As mmgp writes it."""
    written, quantised = {}, {}
    for name, tensor in tensors.items():
        if not is_linear(name, tensor):
            written[name] = tensor
            continue
        module = name.removesuffix(".weight")
        written[f"{name}._data"], written[f"{name}._scale"] = to_int8(tensor)
        written[f"{module}.input_scale"] = torch.ones(())
        written[f"{module}.output_scale"] = torch.ones(())
        quantised[module] = {"weights": "qint8", "activations": "none"}
    save_file(
        written,
        folder / "quanto_int8.safetensors",
        metadata={"quantization_map": json.dumps(quantised)},
    )


def write_gguf(precision):
    """As converters for ComfyUI do it: linear layers in ``precision``, the rest plain,
    the shape of what has more than four dimensions beside it."""

    def write(tensors, folder):
        write_gguf_file(tensors, folder / "model.gguf", precision)

    return write


def write_gguf_file(tensors, file: Path, precision: str):
    writer = gguf.GGUFWriter(str(file), "video")
    kind = gguf.GGMLQuantizationType[precision]
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    for name, tensor in tensors.items():
        values = tensor.float().numpy()
        if values.ndim > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(values.shape))
            values = values.reshape(values.shape[0], -1)
        if is_linear(name, tensor) and values.shape[-1] % block == 0:
            packed = gguf.quants.quantize(values, kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
        else:
            writer.add_tensor(name, values.reshape(values.shape or (1,)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


LOSSLESS = {
    "single file": write_single,
    "in parts": write_in_parts,
    "prefix model.diffusion_model.": write_prefixed("model.diffusion_model."),
    "prefix diffusion_model.": write_prefixed("diffusion_model."),
    "GGUF F32": write_gguf("F32"),
}

PACKED = {
    "scaled fp8": write_scaled_fp8,
    "scaled fp8, later names": write_weight_scale_fp8,
    "quanto int8": write_quanto_int8,
    "GGUF Q8_0": write_gguf("Q8_0"),
}
