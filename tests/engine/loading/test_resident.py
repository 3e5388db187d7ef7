import gc
import weakref
from types import SimpleNamespace

import pytest
from diffusers import WanTransformer3DModel

from engine.errors import Cancelled, MissingWeights
from engine.family import get_variant
from engine.loading.checkpoint import load_component
from engine.loading.interrupt import check_load
from engine.loading.offload import place
from engine.loading.placement import GIB
from engine.loading.resident import ResidentModel
from engine.progress import Progress, ignore, never
from engine.settings import Settings
from tests.fakes import FAMILY
from tests.tiny_wan import make_transformer, write_tiny_wan

pytestmark = pytest.mark.usefixtures("use_fake_family")

QUIET = Progress("job", ignore, never)


@pytest.fixture
def resident(settings):
    return ResidentModel(settings)


@pytest.fixture
def fake():
    return get_variant("fake-model")


def test_a_model_is_loaded_once(resident, fake):
    first = resident.get(fake, QUIET)
    assert resident.get(fake, QUIET) is first


def test_a_video_that_needs_more_of_the_gpu_than_is_left_loads_it_anew(resident, fake):
    first = resident.get(fake, QUIET)
    first.working = 4 * GIB
    assert resident.get(fake, QUIET, working=3 * GIB) is first
    assert resident.get(fake, QUIET, working=5 * GIB) is not first


def test_a_failed_job_frees_its_model(resident, fake):
    first = resident.get(fake, QUIET)
    with pytest.raises(ValueError, match="odd"), resident.released_on_failure():
        raise ValueError("odd")
    assert resident.get(fake, QUIET) is not first


def test_a_cancelled_job_keeps_its_model(resident, fake):
    first = resident.get(fake, QUIET)
    with pytest.raises(Cancelled), resident.released_on_failure():
        raise Cancelled("stop")
    assert resident.get(fake, QUIET) is first


def test_a_model_is_freed_before_the_next_is_looked_for(resident, fake):
    model = resident.get(fake, QUIET)
    released = []
    model.release = lambda: released.append("now")
    reference = weakref.ref(model)
    del model
    with pytest.raises(MissingWeights):
        resident.get(get_variant("wan2.1-t2v-14b"), QUIET)
    gc.collect()
    assert released == ["now"]
    assert reference() is None


def test_loading_can_be_cancelled_between_components(resident, fake, monkeypatch):
    loaded = []
    progress = Progress("job", ignore, lambda: len(loaded) >= 2)

    def load(variant, folder, dtype, on_component):
        for name in ("text encoder", "transformer", "VAE"):
            on_component(name)
            loaded.append(name)

    monkeypatch.setattr(FAMILY, "load", load)
    with pytest.raises(Cancelled):
        resident.get(fake, progress)
    assert loaded == ["text encoder", "transformer"]


def test_loading_can_be_cancelled_inside_a_component(tmp_path, fake, monkeypatch):
    read = []

    def load(variant, weights, dtype, on_component):
        folder = write_tiny_wan(tmp_path)
        load_component(WanTransformer3DModel, folder / "transformer", "float32")

    def is_cancelled():
        read.append("tensor")
        return len(read) > 10

    monkeypatch.setattr(FAMILY, "load", load)
    resident = ResidentModel(Settings(root=tmp_path, gpu="cpu"))
    with pytest.raises(Cancelled):
        resident.get(fake, Progress("job", ignore, is_cancelled))
    assert len(read) == 11
    check_load()  # nobody asks any more
    assert len(read) == 11


def test_moving_to_the_device_can_be_cancelled(tmp_path):
    pipeline = SimpleNamespace(components={"transformer": make_transformer()})
    asked = []

    def is_cancelled():
        asked.append("layer")
        return len(asked) > 5

    progress = Progress("job", ignore, is_cancelled)
    settings = Settings(root=tmp_path, profile="auto")
    with pytest.raises(Cancelled):
        place(None, pipeline, "meta", settings, progress)
    assert len(asked) == 6


def test_loading_names_each_component(resident, fake):
    events = []
    resident.get(fake, Progress("job", events.append, never))
    assert [event.message for event in events] == [
        "loading the text encoder",
        "loading the transformer",
        "loading the VAE",
    ]
