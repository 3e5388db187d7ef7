"""The app's settings: one table, read once in ``wgp.py`` and passed down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from engine.errors import UnreadableFile

PROJECT = Path(__file__).resolve().parent.parent

ProductsName = Literal["exact", "int8", "fp8"]
ProfileName = Literal["auto", "1", "2", "3", "4", "5", "6"]


def _resolved(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError) as error:  # a link to itself
        raise ValueError(f"can't be used: {error}") from error


class Settings(BaseModel):
    """Everything that a user can set once. Each field is also an option of ``wgp.py``
    and a key of ``settings/app.json``; the option wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: Annotated[Path, AfterValidator(_resolved)] = Field(
        PROJECT, description="folder of all data"
    )
    server_name: str = Field("127.0.0.1", description="address to serve on")
    server_port: int = Field(7860, ge=0, le=65535, description="port to serve on")
    profile: ProfileName = Field("auto", description="memory profile, 1 to 6 or auto")
    attention: str = Field("auto", description="attention backend")
    gpu: str = Field("", description="device, such as cuda:1 or cpu; empty chooses")
    compile: bool = Field(False, description="compile the transformer's blocks")
    products: ProductsName = Field(
        "exact", description="large layers in 8 bits; changes videos a little"
    )
    download: bool = Field(True, description="download a model's missing files")
    offline: bool = Field(False, description="never open a connection to other hosts")
    bandwidth: float = Field(
        0.0, ge=0, description="MiB per second that downloads may take; 0 is no limit"
    )
    download_to: Literal["cache", "ckpts"] = Field(
        "cache", description="where downloads go: the hub's cache, or ckpts/"
    )
    model_dirs: tuple[Annotated[Path, AfterValidator(Path.absolute)], ...] = Field(
        (), description="more folders of models, such as ComfyUI's; only read"
    )
    verbose: int = Field(1, ge=0, le=3, description="how much to print")
    lora_dir: Annotated[Path, AfterValidator(Path.absolute)] | None = Field(
        None, description="one more folder of LoRAs"
    )
    sidecar: bool = Field(False, description="write a .json beside each video")

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def media(self) -> Path:
        """Input media of queued jobs, named by their sha256."""
        return self.root / "media"

    @property
    def models(self) -> Path:
        """The user's own rows of the catalogue, a file each."""
        return self.root / "settings" / "models"

    @property
    def presets(self) -> Path:
        return self.root / "settings" / "presets"

    @property
    def licences(self) -> Path:
        """Which licences of models were accepted, and when."""
        return self.root / "settings" / "licences.json"

    @property
    def weights(self) -> tuple[Path, ...]:
        """Folders that are searched for models: the user's, then the shipped ones."""
        return tuple(dict.fromkeys((self.root / "ckpts", PROJECT / "ckpts")))

    @property
    def loras(self) -> tuple[Path, ...]:
        """Folders with one folder of LoRAs per family: the user's, the app's, and those
        that come with the demo models."""
        shipped = PROJECT / "ckpts" / "demo" / "loras"
        return tuple(dict.fromkeys((self.root / "loras", PROJECT / "loras", shipped)))


def read_settings(file: Path, **options: object) -> Settings:
    """Settings from ``file`` if it exists, overridden by the given options.

    Raises ``UnreadableFile`` that names the file or the option, and the key.
    """
    stored: dict[str, object] = {}
    if file.exists():
        try:
            stored = json.loads(file.read_bytes())  # bytes may begin with a BOM
        except OSError as error:
            raise UnreadableFile(f"can't read {file}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UnreadableFile(f"{file} isn't JSON: {error}") from error
        if not isinstance(stored, dict):
            raise UnreadableFile(f"{file} isn't a JSON object")
    try:
        return Settings.model_validate({**stored, **options})
    except ValidationError as error:
        raise UnreadableFile(_told(error, file, options)) from error


def _told(error: ValidationError, file: Path, options: Mapping[str, object]) -> str:
    """What is wrong with the first wrong value, and where it stands."""
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    message = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
    if first["type"] == "extra_forbidden":
        near = get_close_matches(key, Settings.model_fields, n=1)
        message = "no such setting" + (f"; did you mean {near[0]!r}?" if near else "")
    place = f"--{key.replace('_', '-')}" if key in options else f"{file}: {key!r}"
    return f"{place}: {message}"
