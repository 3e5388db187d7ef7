"""Fixtures for all tests."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import licences
from engine.family import FAMILIES
from engine.settings import Settings
from tests.fakes import register_fake_family

# Read when huggingface_hub is imported, here and in the processes that tests start:
# nothing in a test reaches the network.
os.environ["HF_HUB_OFFLINE"] = "1"

# A shell starts background jobs with Ctrl-C ignored, and children inherit that: tests
# that interrupt the app would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


FEW = 50
"""Modules whose objects don't matter."""


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SettingAside())


class SettingAside:
    """Leaves what imports have made, and what a file of tests has cached, out of every
    later collection of garbage, which would look at it for a second or more each
    time."""

    modules = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Iterator[None]:
        yield
        is_last = nextitem is None or nextitem.path != item.path
        if is_last or len(sys.modules) > self.modules + FEW:
            self.modules = len(sys.modules)
            gc.collect()
            gc.freeze()


@pytest.fixture
def use_fake_family() -> Iterator[None]:
    """``fake-model`` is a model like any other, in this process."""
    before = dict(FAMILIES)
    register_fake_family()
    yield
    FAMILIES.clear()
    FAMILIES.update(before)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data root of its own, without torch where the model needs none."""
    return Settings(root=tmp_path / "root", gpu="cpu")


@pytest.fixture
def accept_every_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model may be used, here and in the processes that the test starts."""
    monkeypatch.setenv(licences.ENVIRONMENT, ",".join(licences.LICENCES))
