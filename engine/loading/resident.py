"""The one model that is kept in memory between jobs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import Cancelled, MissingWeights
from engine.family import LoadedModel, ModelVariant, get_family
from engine.licences import require_licence
from engine.loading.download import get_weights
from engine.loading.interrupt import interruptible_load
from engine.loading.memory import empty_caches
from engine.loading.networks import check_files
from engine.loading.offload import can_stream, choose_device, choose_dtype, place
from engine.loading.placement import DEEPER, STREAMED, WORKING_BYTES
from engine.loading.precision import choose_files, free_memory
from engine.loading.weights import find_weights
from engine.progress import Progress
from engine.settings import Settings


class ResidentModel:
    """Owns the loaded model: at most one, freed before the next is loaded."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model: LoadedModel | None = None
        self._device: str | None = None
        self._deeper: tuple[str, str] | None = None
        """A model's id, and the memory profile that it needed."""

    @property
    def device(self) -> str:
        """Chosen at first use, because asking loads torch."""
        if self._device is None:
            self._device = choose_device(self._settings)
        return self._device

    def get(
        self,
        variant: ModelVariant,
        progress: Progress,
        *,
        working: float = WORKING_BYTES,
        download: bool = True,
    ) -> LoadedModel:
        """``variant``, loaded if it isn't yet, or if its weights leave fewer bytes of
        the GPU than the ``working`` ones that a video needs. Its missing files are
        downloaded first unless ``download`` or the settings forbid it.

        Raises ``LicenceNotAccepted``, ``MissingWeights``, ``UnreadableFile`` or
        ``Cancelled``.
        """
        require_licence(variant, self._settings)
        same = self._model is not None and self._model.variant == variant
        if self._model is not None and same and working <= self._model.working:
            return self._model
        if self._model is not None and not same:
            # A damaged file of the next one mustn't cost the one that works.
            check_files(_present_files(variant, self._settings))
        self.release()
        empty_caches(self.device)  # a load that was cancelled may have left something
        chosen = choose_files(variant, *free_memory(self.device))
        allowed = download and self._settings.download
        settings = self._settings.model_copy(update={"download": allowed})
        weights = get_weights(variant, settings, progress, chosen)
        with interruptible_load(progress.check):
            pipeline = get_family(variant.family).load(
                variant,
                weights,
                choose_dtype(self.device),
                lambda name: progress.begin("load", f"loading the {name}"),
            )
        settings = self._placement_of(variant)
        working = math.inf if self._deeper else working
        self._model = place(variant, pipeline, self.device, settings, progress, working)
        return self._model

    @property
    def deeper_profile(self) -> int | None:
        """The memory profile that takes less of the GPU than the loaded model does;
        ``None`` when there is none."""
        if self._model is None or not self._model.device.startswith("cuda"):
            return None
        profile = self._model.profile
        if profile is None:
            return STREAMED if can_stream(self._model.pipeline) else 1
        if profile == STREAMED and math.isfinite(self._model.working):
            return STREAMED  # with nothing kept that can be streamed
        return DEEPER.get(profile)

    def place_deeper(self, profile: int) -> None:
        """Free the model, which is loaded into ``profile`` when it is next wanted, and
        as long as no other takes its place."""
        if self._model is not None:
            self._deeper = (self._model.variant.id, str(profile))
        self.release()

    def _placement_of(self, variant: ModelVariant) -> Settings:
        if self._deeper is None or self._deeper[0] != variant.id:
            self._deeper = None
            return self._settings
        return self._settings.model_copy(update={"profile": self._deeper[1]})

    @contextmanager
    def released_on_failure(self) -> Iterator[None]:
        """A job that fails may leave its model in any state: the next one loads it
        anew. A cancelled job leaves it sound."""
        sound = False
        try:
            yield
            sound = True
        except Cancelled:
            sound = True
            raise
        finally:
            if not sound:
                self.release()

    def release(self) -> None:
        """Free the model's memory."""
        if self._model is None:
            return
        self._model.release()
        self._model = None
        empty_caches(self.device)


def _present_files(variant: ModelVariant, settings: Settings) -> dict[str, Path]:
    try:
        return find_weights(variant, settings)
    except MissingWeights:  # they are downloaded, and checked as they are loaded
        return {}
