"""``--inspect`` says what a file is, from its header or its requests alone."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

import wgp
from engine.media.video import VideoWriter
from engine.queue import archive
from engine.queue.store import SqliteJobStore
from engine.request import GenerationRequest
from engine.settings import PROJECT
from tests.authors_names import wan_transformer
from tests.layout_writers import write_gguf, write_quanto_int8, write_scaled_fp8
from tests.tiny_hyvideo import write_tiny_hyvideo
from tests.tiny_ltx import write_tiny_ltx

SHIPPED = PROJECT / "ckpts" / "demo" / "wan"
TRANSFORMER = SHIPPED / "transformer" / "diffusion_pytorch_model.safetensors"
REQUEST = {"model": "wan-demo", "prompt": "a red ball moving left", "seed": 1}


@pytest.fixture
def inspect(capsys, tmp_path):
    """Runs the program; returns exit code, JSON, and what was said as an error."""

    def inspect(file, *options):
        arguments = ["--inspect", str(file), "--root", str(tmp_path / "root")]
        code = wgp.main([*arguments, *options])
        said = capsys.readouterr()
        return code, json.loads(said.out), said.err

    return inspect


@pytest.fixture
def authors_tensors():
    stored = load_file(TRANSFORMER)
    return wan_transformer(type("Network", (), {"state_dict": lambda _: stored})())


def lora(tmp_path, layers, rank=4, prefix="diffusion_model."):
    tensors = {}
    for name, (outputs, inputs) in layers.items():
        tensors[f"{prefix}{name}.lora_A.weight"] = torch.zeros(rank, inputs)
        tensors[f"{prefix}{name}.lora_B.weight"] = torch.zeros(outputs, rank)
    file = tmp_path / "lora.safetensors"
    save_file(tensors, file)
    return file


def test_a_checkpoint_is_described_and_counted(inspect):
    code, report, said = inspect(TRANSFORMER, "--model", "wan-demo")
    network = report.pop("networks")[0]
    assert code == 0
    assert said == ""
    assert report == {
        "file": str(TRANSFORMER),
        "kind": "checkpoint",
        "family": "wan",
        "layout": "diffusers' names",
        "container": "safetensors",
        "files": 1,
        "precision": "bf16",
        "tensors": 204,
        "matched": 204,
        "unmatched": 0,
        "usable": True,
    }
    assert network["network"] == "Wan transformer"
    assert network["kind"] == "WanTransformer3DModel"


@pytest.mark.parametrize(
    ("write", "precision", "container"),
    [
        (write_scaled_fp8, "scaled fp8", "safetensors"),
        (write_quanto_int8, "int8 (quanto)", "safetensors"),
        (write_gguf("Q8_0"), "Q8_0", "gguf"),
        (write_gguf("F16"), "fp16", "gguf"),
    ],
    ids=["fp8", "int8", "Q8_0", "F16"],
)
def test_packed_checkpoints_say_how(
    inspect, tmp_path, authors_tensors, write, precision, container
):
    write(authors_tensors, tmp_path)
    file = next(each for each in tmp_path.iterdir() if each.is_file())
    code, report, _ = inspect(file)
    assert code == 0, report
    assert report["precision"] == precision
    assert report["container"] == container
    assert report["matched"] == 204
    after = " after model.diffusion_model." if precision == "scaled fp8" else ""
    assert report["layout"] == f"its authors' names{after}"


def test_no_tensor_is_read(inspect, tmp_path, authors_tensors, monkeypatch):
    write_scaled_fp8(authors_tensors, tmp_path)

    def refuse(*arguments, **options):
        raise AssertionError("a tensor would be read")

    monkeypatch.setattr(safetensors, "safe_open", refuse)
    code, report, _ = inspect(tmp_path / "model_v1.safetensors", "--model", "wan-demo")
    assert code == 0, report


def test_a_whole_model_is_described_part_by_part(inspect, tmp_path):
    folder = write_tiny_hyvideo(tmp_path / "tiny")
    code, report, _ = inspect(folder)
    assert code == 0, report
    assert report["family"] == "hyvideo"
    networks = {each["component"]: each["kind"] for each in report["networks"]}
    assert networks["transformer"] == "HunyuanVideoTransformer3DModel"
    assert report["unmatched"] == 0


@pytest.mark.parametrize("part", ["vae/diffusion_pytorch_model", "text_encoder/model"])
def test_a_file_of_a_diffusers_folder_is_held_against_the_configuration_beside_it(
    inspect, part
):
    code, report, _ = inspect(SHIPPED / f"{part}.safetensors")
    assert (code, report["unmatched"], report["usable"]) == (0, 0, True)


def test_what_does_not_fit_is_counted_and_named(inspect, tmp_path):
    stored = load_file(TRANSFORMER)
    del stored["blocks.1.attn1.to_q.weight"]
    stored["extra"] = torch.ones(1)
    stored["blocks.2.attn1.to_q.bias"] = torch.ones(3)
    file = tmp_path / "broken.safetensors"
    save_file(stored, file)
    code, report, said = inspect(file)
    network = report["networks"][0]
    assert code == 2
    assert (report["matched"], report["unmatched"]) == (202, 3)
    assert network["missing"] == ["blocks.1.attn1.to_q.weight"]
    assert network["unexpected"] == ["extra"]
    assert "blocks.2.attn1.to_q.bias of shape (3,)" in network["different"][0]
    assert "lacks blocks.1.attn1.to_q.weight" in report["reason"]
    assert said == f"wgp: {report['reason']}\n"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("ltxv-demo", "a Wan transformer, which is for another family of models than"),
        ("hyvideo-demo", "another family of models than hyvideo-demo"),
        ("wan2.9", "no model is called 'wan2.9'"),
    ],
)
def test_another_models_checkpoint_is_refused(inspect, model, said):
    code, report, _ = inspect(TRANSFORMER, "--model", model)
    assert code == 2
    assert said in report["reason"]


def test_a_checkpoint_of_another_size_is_refused_by_the_models_own(inspect, tmp_path):
    from diffusers import WanTransformer3DModel

    size = {"num_layers": 2, "ffn_dim": 64, "num_attention_heads": 1, "text_dim": 32}
    file = tmp_path / "small.safetensors"
    save_file(WanTransformer3DModel(**size).state_dict(), file)
    assert inspect(file)[0] == 0
    code, report, _ = inspect(file, "--model", "wan-demo")
    assert code == 2
    assert "of shape" in report["reason"]


def test_a_lora_is_held_against_the_models_layers(inspect, tmp_path):
    layers = {"blocks.0.self_attn.q": (384, 384), "blocks.6.ffn.0": (1536, 384)}
    file = lora(tmp_path, layers)
    code, report, _ = inspect(file, "--model", "wan-demo")
    assert code == 0, report
    assert report["kind"] == "lora"
    assert report["family"] == "wan"
    assert report["ranks"] == [4]
    assert report["types"] == ["LoRA"]
    assert report["layout"] == "ComfyUI"
    counts = [report[key] for key in ("tensors", "matched", "unmatched", "dropped")]
    assert counts == [4, 4, 0, 0]
    assert inspect(file)[1]["family"] == "wan"


def test_what_a_lora_has_beyond_the_model_is_listed(inspect, tmp_path):
    layers = {"blocks.0.self_attn.q": (384, 384), "blocks.6.ffn.0": (1536, 384)}
    more = {"blocks.7.self_attn.q": (384, 384), "blocks.1.self_attn.q": (384, 64)}
    file = lora(tmp_path, {**layers, **more})
    code, report, _ = inspect(file, "--model", "wan-demo")
    assert code == 0, report
    counts = [report[key] for key in ("matched", "unmatched", "dropped")]
    assert counts == [4, 2, 2]
    assert report["unmatched_tensors"] == [
        f"diffusion_model.blocks.7.self_attn.q.lora_{side}.weight" for side in "AB"
    ]
    said = set(report["dropped_tensors"].values())
    assert said == {"it changes 384×64 where the model has 384×384"}


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.self_attn.q.diff",
        "lycoris_blocks_0_self_attn_q.lokr_w1",
        "diffusion_model.blocks.0.self_attn.q.hada_w1_a",
        "blocks.0.self_attn.q.lora.down.weight",
    ],
)
def test_loras_of_every_kind_are_told_from_checkpoints(inspect, tmp_path, name):
    file = tmp_path / "lora.safetensors"
    save_file({name: torch.zeros(4, 4)}, file)
    assert inspect(file)[1]["kind"] == "lora"


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ({"blocks.0.self_attn.q": (384, 64)}, "it changes 384×64 where the model has"),
        ({"blocks.7.self_attn.q": (384, 384)}, "only 0 of its 2 tensors do; it has"),
        ({"double_blocks.0.img_attn_qkv": (1152, 384)}, "was made for Hunyuan Video"),
        ({"down_blocks.0.conv": (8, 8)}, "doesn't fit Wan: only 0 of its 2"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused(inspect, tmp_path, layers, said):
    code, report, _ = inspect(lora(tmp_path, layers), "--model", "wan-demo")
    assert code == 2
    assert said in report["reason"]


def test_a_saved_queue_shows_its_requests(inspect, tmp_path, settings):
    store = SqliteJobStore(tmp_path / "queue.sqlite")
    jobs = store.add([GenerationRequest.model_validate(REQUEST)])
    archive.save(jobs, tmp_path / "queue.zip", settings.root)
    store.close()
    code, report, _ = inspect(tmp_path / "queue.zip")
    assert code == 0
    assert report["kind"] == "queue"
    assert report["requests"][0]["prompt"] == REQUEST["prompt"]


def test_a_file_of_requests_is_shown_complete(inspect, tmp_path):
    file = tmp_path / "request.json"
    file.write_text(json.dumps([REQUEST, REQUEST]))
    code, report, _ = inspect(file)
    assert code == 0
    assert report["kind"] == "requests"
    assert [each["seed"] for each in report["requests"]] == [1, 1]
    assert report["requests"][0]["num_frames"] == 33


def test_a_request_that_cannot_run_is_refused_with_its_reason(inspect, tmp_path):
    file = tmp_path / "request.json"
    file.write_text(json.dumps({**REQUEST, "model": "wan-dmo"}))
    code, report, _ = inspect(file)
    assert code == 2
    assert "no model is called 'wan-dmo'" in report["reason"]


@pytest.mark.parametrize("comment", [json.dumps(REQUEST), None])
def test_a_video_shows_the_request_inside(inspect, tmp_path, comment):
    file = tmp_path / "video.mp4"
    tags = {"comment": comment} if comment else {}
    with VideoWriter(file, width=64, height=64, fps=8, tags=tags) as video:
        video.write(np.zeros((2, 64, 64, 3), np.uint8))
    code, report, _ = inspect(file)
    assert report["kind"] == "video"
    if comment:
        assert code == 0
        assert report["request"]["prompt"] == REQUEST["prompt"]
    else:
        assert code == 2
        assert "carries no settings" in report["reason"]


def test_an_index_and_the_parts_that_it_names_are_one_checkpoint(inspect, tmp_path):
    folder = write_tiny_ltx(tmp_path / "tiny")
    stored = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    save_file(stored, tmp_path / "one.safetensors")
    index = tmp_path / "x.safetensors.index.json"
    weight_map = dict.fromkeys(stored, "one.safetensors")
    index.write_text(json.dumps({"weight_map": weight_map}))
    code, report, _ = inspect(index)
    assert code == 0, report
    assert report["family"] == "ltx_video"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"<html>", "a web page"),
        (b"GGUF" + bytes(20), "its version of GGUF, 0, isn't known"),
        (b"hello", "doesn't begin as a safetensors file"),
        (b'{"model": ', "isn't JSON"),
    ],
)
def test_other_files_are_refused_with_a_reason(inspect, tmp_path, content, said):
    file = tmp_path / "file.safetensors"
    file.write_bytes(content)
    code, report, errors = inspect(file)
    assert code == 2
    assert report["usable"] is False
    assert said in report["reason"]
    assert said in errors


def test_a_pickled_archive_is_no_queue(inspect, tmp_path):
    file = tmp_path / "model.pt"
    with zipfile.ZipFile(file, "w") as pickled:
        pickled.writestr("model/data.pkl", b"\x80\x02.")
    code, report, _ = inspect(file)
    assert code == 2
    assert "a pickled PyTorch file, which could run any program" in report["reason"]


def test_a_file_that_is_not_there_is_named(inspect, tmp_path):
    code, report, _ = inspect(tmp_path / "nothing")
    assert code == 2
    assert "No such file" in report["reason"]


def test_torch_is_loaded_for_no_lora_and_no_request(tmp_path):
    file = lora(tmp_path, {"blocks.0.self_attn.q": (384, 384)})
    (tmp_path / "request.json").write_text(json.dumps(REQUEST))
    program = (
        "import sys, wgp\n"
        f"for name in ({str(file)!r}, {str(tmp_path / 'request.json')!r}):\n"
        "    assert wgp.main(['--inspect', name]) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True)


def test_what_is_no_file_is_refused_at_once(inspect, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, tmp_path / ("a" * 300)):
        code, report, _ = inspect(place)
        assert (code, report["usable"]) == (2, False)


def test_a_request_may_begin_with_a_byte_order_mark(inspect, tmp_path):
    file = tmp_path / "request.json"
    file.write_text(json.dumps(REQUEST), encoding="utf-8-sig")
    code, report, _ = inspect(file)
    assert (code, report["kind"]) == (0, "requests")
