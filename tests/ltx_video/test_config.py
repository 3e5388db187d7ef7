"""Each checkpoint's numbers, and what is refused."""

from pathlib import Path

import pytest

from engine.errors import UnreadableFile, UserError
from engine.family import get_variant
from ltx_video import FAMILY
from ltx_video.config import CONFIGS, check_together, load_config
from ltx_video.variants import VARIANTS, options_of

DEV = "ltxv_0.9.7_13B_dev_bf16.safetensors"
DISTILLED = "ltxv-13b-0.9.7-distilled.safetensors"


ROWS = {variant.id: options_of(variant).config for variant in VARIANTS}


def test_every_row_has_a_config_and_every_config_a_row():
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == set(ROWS.values())


@pytest.mark.parametrize("variant", FAMILY.variants(), ids=lambda row: row.id)
def test_rows_config_and_files_belong_together(variant):
    config = load_config(ROWS[variant.id])
    checkpoint = (
        "distilled_lora" if "distilled_lora" in variant.files else "transformer"
    )
    for choice in variant.files.get(checkpoint, ()):
        check_together(ROWS[variant.id], config, Path(choice.path))
    assert ("latent_upsampler" in variant.files) == (
        config.second_pass is not None and bool(variant.files)
    )
    listed = config.first_pass.timesteps
    if listed is not None:
        assert variant.defaults["num_inference_steps"] == len(listed)
    scales = [each.guidance_scale for each in config.first_pass.guidance]
    if scales:
        assert variant.defaults["guidance_scale"] == max(scales)


def test_the_published_numbers_of_the_large_models():
    dev = load_config("ltxv-13b-0.9.7-dev")
    assert [g.guidance_scale for g in dev.first_pass.guidance] == [1, 1, 6, 8, 6, 1, 1]
    assert [g.stg_scale for g in dev.first_pass.guidance] == [0, 0, 4, 4, 4, 2, 1]
    assert (dev.first_pass.steps, dev.first_pass.skip_final) == (30, 3)
    assert (dev.second_pass.steps, dev.second_pass.skip_initial) == (30, 17)
    distilled = load_config("ltxv-13b-0.9.7-distilled")
    assert distilled.second_pass.timesteps == (0.9094, 0.725, 0.4219)
    newer = load_config("ltxv-13b-0.9.8-distilled")
    assert newer.tone_map_compression_ratio == 0.6
    assert load_config("ltxv-2b-0.9.6-distilled").stochastic_sampling
    assert distilled.downscale_factor == pytest.approx(2 / 3, abs=1e-4)


def test_a_dev_checkpoint_with_a_distilled_config_is_refused_with_the_right_one():
    with pytest.raises(UserError) as caught:
        check_together(
            "ltxv-13b-0.9.7-distilled",
            load_config("ltxv-13b-0.9.7-distilled"),
            Path(DEV),
        )
    said = str(caught.value)
    assert DEV in said
    assert "ltxv-13b-0.9.7-distilled.yaml" in said
    assert "use ltxv-13b-0.9.7-dev.yaml" in said


def test_a_distilled_checkpoint_with_a_dev_config_is_refused_with_the_right_one():
    with pytest.raises(UserError, match=r"use ltxv-13b-0\.9\.7-distilled\.yaml"):
        check_together(
            "ltxv-13b-0.9.7-dev", load_config("ltxv-13b-0.9.7-dev"), Path(DISTILLED)
        )


def test_another_version_is_refused():
    name = "ltxv-13b-0.9.8-dev.safetensors"
    with pytest.raises(UserError, match=r"use ltxv-13b-0\.9\.8-dev\.yaml"):
        check_together(
            "ltxv-13b-0.9.7-dev", load_config("ltxv-13b-0.9.7-dev"), Path(name)
        )


def test_a_file_whose_name_says_nothing_is_taken():
    check_together("demo", load_config("demo"), Path("transformer"))
    check_together(
        "ltxv-13b-0.9.7-dev",
        load_config("ltxv-13b-0.9.7-dev"),
        Path("mine.safetensors"),
    )


def test_it_is_refused_before_anything_is_loaded(tmp_path):
    loaded = []
    with pytest.raises(UserError, match="is a dev checkpoint"):
        FAMILY.load(
            get_variant("ltxv-13b-0.9.7-distilled"),
            {"transformer": tmp_path / DEV},
            "bfloat16",
            loaded.append,
        )
    assert loaded == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "can't read"),
        ("checkpoint: dev\nversion: '1'\n", "first_pass: is missing"),
        ("checkpoint: fast\nversion: '1'\nfirst_pass: {}\n", "checkpoint: "),
        ("checkpoint: dev\nversion: '1'\nfirst_pass: {}\nsteps: 3\n", "steps: "),
        (
            "checkpoint: dev\nversion: '1'\nfirst_pass: {timesteps: [0.5, 0.9]}\n",
            "timesteps must fall",
        ),
        (
            "checkpoint: dev\nversion: '1'\nfirst_pass: {timesteps: []}\n",
            "first_pass: ",
        ),
        (
            "checkpoint: dev\nversion: '1'\nfirst_pass: {steps: 3, skip_final: 3}\n",
            "all steps are skipped",
        ),
    ],
)
def test_a_wrong_config_is_refused_by_name(tmp_path, text, said):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UnreadableFile, match=r"mine\.yaml") as caught:
        load_config("mine", tmp_path)
    assert said in str(caught.value)
