from wan.variants import SCHEDULERS, VARIANTS


def test_ids_say_version_task_and_size():
    assert [variant.id for variant in VARIANTS] == [
        "wan-demo",
        "wan2.1-t2v-1.3b",
        "wan2.1-t2v-14b",
    ]


def test_real_models_have_their_published_defaults():
    for variant in VARIANTS[1:]:
        defaults = variant.defaults
        assert (defaults["width"], defaults["height"]) == (832, 480)
        assert (defaults["num_frames"], defaults["fps"]) == (81, 16.0)
        assert defaults["num_inference_steps"] == 50
        assert defaults["scheduler"] in SCHEDULERS
        assert variant.hub is not None and variant.hub.endswith("-Diffusers")


def test_the_demo_runs_without_guidance():
    demo = VARIANTS[0]
    assert demo.hub is None
    assert demo.defaults["guidance_scale"] == 1.0
