from hyvideo.variants import VARIANTS, options_of

ROWS = {variant.id: variant for variant in VARIANTS}


def test_every_row_has_an_architecture():
    made = {options_of(row).architecture for row in VARIANTS}
    assert made == {"hunyuan", "hunyuan15", "framepack"}


def test_real_models_have_their_published_defaults():
    defaults = ROWS["hunyuan-video-t2v"].defaults
    assert (defaults["guidance_scale"], defaults["true_cfg_scale"]) == (6.0, 1.0)
    assert (defaults["flow_shift"], defaults["num_inference_steps"]) == (7.0, 50)
    assert defaults["fps"] == 24.0
    assert defaults["scheduler"] in ROWS["hunyuan-video-t2v"].schedulers


def test_guidance_is_embedded_where_the_transformer_was_trained_with_it():
    embedded = {row for row, variant in ROWS.items() if variant.guidance == "embedded"}
    assert embedded == {
        "hunyuan-video-t2v",
        "hunyuan-video-t2v-int8",
        "hunyuan-video-t2v-fast",
        "hunyuan-video-t2v-accvideo",
        "hunyuan-video-i2v",
        "framepack-i2v",
        "framepack-f1-i2v",
    }
    for row, variant in ROWS.items():
        assert ("true_cfg_scale" in variant.defaults) == (row in embedded)


def test_rows_from_an_image_need_one_and_the_demo_may_have_one():
    for row, variant in ROWS.items():
        if "image_start" in variant.media:
            needed = frozenset() if row == "hyvideo-demo" else {"image_start"}
            assert variant.required_media == needed
            assert "i2v" in row or row == "hyvideo-demo"


def test_the_demo_runs_without_guidance_and_download():
    demo = VARIANTS[0]
    assert (demo.id, demo.hub, demo.files) == ("hyvideo-demo", None, {})
    assert demo.defaults["guidance_scale"] == 1.0
    assert demo.guidance == "cfg"
