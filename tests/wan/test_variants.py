from engine.family import get_variant
from wan.variants import VARIANTS, options_of


def test_ids_say_version_task_and_size():
    assert [variant.id for variant in VARIANTS] == [
        "wan-demo",
        "wan-demo-i2v",
        "wan-demo-vace",
        "wan2.1-t2v-1.3b",
        "wan2.1-t2v-14b",
        "wan2.1-t2v-14b-int8",
        "wan2.1-t2v-14b-fusionx",
        "wan2.1-t2v-14b-stepdistill",
        "wan2.1-t2v-14b-moviigen-1.1",
        "wan2.1-i2v-14b-480p",
        "wan2.1-i2v-14b-480p-int8",
        "wan2.1-i2v-14b-720p",
        "wan2.1-i2v-14b-720p-int8",
        "wan2.1-flf2v-14b-720p",
        "wan2.1-fun-inp-1.3b",
        "wan2.1-fun-inp-14b",
        "wan2.2-t2v-a14b",
        "wan2.2-t2v-a14b-int8",
        "wan2.2-i2v-a14b",
        "wan2.2-i2v-a14b-int8",
        "wan2.2-ti2v-5b",
        "wan2.1-vace-1.3b",
        "wan2.1-vace-14b",
        "skyreels-v2-df-1.3b-540p",
        "skyreels-v2-df-14b-540p",
        "skyreels-v2-df-14b-720p",
        "skyreels-v2-t2v-14b-540p",
        "skyreels-v2-t2v-14b-720p",
        "skyreels-v2-i2v-1.3b-540p",
        "skyreels-v2-i2v-14b-540p",
        "skyreels-v2-i2v-14b-720p",
    ]


REAL = [variant for variant in VARIANTS if "demo" not in variant.id]
PUBLISHED = {
    "wan2.1-t2v-1.3b": (832, 480, 81, 16, 50, 6.0, 8.0),
    "wan2.1-t2v-14b": (832, 480, 81, 16, 50, 5.0, 3.0),
    "wan2.1-t2v-14b-int8": (832, 480, 81, 16, 50, 5.0, 3.0),
    "wan2.1-t2v-14b-fusionx": (832, 480, 81, 16, 8, 1.0, 5.0),
    "wan2.1-t2v-14b-stepdistill": (832, 480, 81, 16, 4, 1.0, 3.0),
    "wan2.1-t2v-14b-moviigen-1.1": (1280, 720, 81, 16, 50, 5.0, 5.0),
    "wan2.1-i2v-14b-480p": (832, 480, 81, 16, 40, 5.0, 3.0),
    "wan2.1-i2v-14b-480p-int8": (832, 480, 81, 16, 40, 5.0, 3.0),
    "wan2.1-i2v-14b-720p": (1280, 720, 81, 16, 40, 5.0, 5.0),
    "wan2.1-i2v-14b-720p-int8": (1280, 720, 81, 16, 40, 5.0, 5.0),
    "wan2.1-flf2v-14b-720p": (1280, 720, 81, 16, 50, 5.5, 16.0),
    "wan2.1-fun-inp-1.3b": (832, 480, 81, 16, 50, 6.0, 5.0),
    "wan2.1-fun-inp-14b": (832, 480, 81, 16, 50, 6.0, 5.0),
    "wan2.2-t2v-a14b": (832, 480, 81, 16, 40, 4.0, 12.0),
    "wan2.2-t2v-a14b-int8": (832, 480, 81, 16, 40, 4.0, 12.0),
    "wan2.2-i2v-a14b": (832, 480, 81, 16, 40, 3.5, 5.0),
    "wan2.2-i2v-a14b-int8": (832, 480, 81, 16, 40, 3.5, 5.0),
    "wan2.2-ti2v-5b": (1280, 704, 121, 24, 50, 5.0, 5.0),
    "wan2.1-vace-1.3b": (832, 480, 81, 16, 50, 5.0, 16.0),
    "wan2.1-vace-14b": (832, 480, 81, 16, 50, 5.0, 16.0),
    "skyreels-v2-df-1.3b-540p": (960, 544, 97, 24, 30, 6.0, 8.0),
    "skyreels-v2-df-14b-540p": (960, 544, 97, 24, 30, 6.0, 8.0),
    "skyreels-v2-df-14b-720p": (1280, 720, 121, 24, 30, 6.0, 8.0),
    "skyreels-v2-t2v-14b-540p": (960, 544, 97, 24, 30, 6.0, 8.0),
    "skyreels-v2-t2v-14b-720p": (1280, 720, 121, 24, 30, 6.0, 8.0),
    "skyreels-v2-i2v-1.3b-540p": (960, 544, 97, 24, 30, 5.0, 5.0),
    "skyreels-v2-i2v-14b-540p": (960, 544, 97, 24, 30, 5.0, 5.0),
    "skyreels-v2-i2v-14b-720p": (1280, 720, 121, 24, 30, 5.0, 5.0),
}
FIELDS = (
    "width",
    "height",
    "num_frames",
    "fps",
    "num_inference_steps",
    "guidance_scale",
    "flow_shift",
)


def test_real_models_have_their_published_defaults():
    rows = {variant.id: variant for variant in REAL}
    assert {
        model: tuple(row.defaults[field] for field in FIELDS)
        for model, row in rows.items()
    } == PUBLISHED


def test_real_models_come_from_the_hub_in_diffusers_layout():
    for variant in REAL:
        assert variant.defaults["scheduler"] in variant.schedulers
        if variant.hub is None:
            assert variant.id == "wan2.1-fun-inp-1.3b"  # on nobody's configuration
        else:
            assert variant.hub.lower().endswith("-diffusers")


def test_further_trainings_have_the_rest_of_their_base():
    for variant in VARIANTS:
        if variant.files and variant.hub:
            base = get_variant(variant.base_folder)
            assert all(name.startswith("transformer") for name in variant.files)
            assert (variant.hub, variant.options) == (base.hub, base.options)


def test_the_demo_runs_without_guidance():
    demo = VARIANTS[0]
    assert demo.hub is None
    assert demo.defaults["guidance_scale"] == 1.0


def test_pairs_change_at_their_published_noise_levels():
    assert options_of(get_variant("wan2.2-t2v-a14b")).boundary_ratio == 0.875
    assert options_of(get_variant("wan2.2-i2v-a14b")).boundary_ratio == 0.9
    assert options_of(get_variant("wan2.2-ti2v-5b")).boundary_ratio is None


def test_wan_2_2_5b_makes_whole_cells_only():
    limits = get_variant("wan2.2-ti2v-5b").limits
    assert limits.snap_size(720) == 704
