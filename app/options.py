"""The command line: argv → options and settings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import get_args

from engine.errors import UserError
from engine.licences import get_licence
from engine.settings import PROJECT, ProductsName, ProfileName, Settings, read_settings


@dataclass(frozen=True)
class Options:
    """What one start of the program was asked to do."""

    settings: Settings
    process: str | None = None
    inspect: str | None = None
    model: str | None = None
    output_dir: Path | None = None
    dry_run: bool = False
    json: bool = False
    share: bool = False
    auth: tuple[str, str] | None = None
    open_browser: bool = False
    accept_licences: tuple[str, ...] = ()
    list_models: bool = False
    download: str | None = None
    """The id of a model to fetch, and below of one to check or to delete."""
    verify: str | None = None
    delete: str | None = None
    repair: bool = False
    yes: bool = False
    clean_media: bool = False

    @property
    def is_about_models(self) -> bool:
        ids = (self.download, self.verify, self.delete)
        return self.list_models or any(model is not None for model in ids)

    @property
    def is_open_to_others(self) -> bool:
        """Whether someone at another machine could reach the page."""
        return self.share or not _is_loopback(self.settings.server_name)


def parse(argv: list[str] | None) -> Options:
    """Options from ``argv``; exits with 2 on an unknown option, as argparse does.

    Raises ``UnreadableFile`` for a broken settings file and ``UserError`` for values
    that argparse can't judge.
    """
    parser = _parser()
    found = parser.parse_args(argv)
    _refuse_mixtures(parser, found)
    given = {
        name: value
        for name in Settings.model_fields
        if (value := getattr(found, name, None)) is not None
    }
    if found.listen:
        given["server_name"] = "0.0.0.0"
    try:
        root = Path(given.get("root", PROJECT)).expanduser().resolve()
        is_file = root.is_file()
    except (OSError, RuntimeError) as error:  # a link to itself, a name too long
        raise UserError(f"--root: {given['root']} can't be used: {error}") from error
    if is_file:
        raise UserError(f"--root: {root} is a file, not a folder")
    if "root" in given:
        given["root"] = root
    if found.settings is not None and not found.settings.is_dir():
        raise UserError(f"--settings: there is no folder {found.settings}")
    folder: Path = found.settings or root / "settings"
    return Options(
        settings=read_settings(folder / "app.json", **given),
        process=found.process,
        inspect=found.inspect,
        model=found.model,
        output_dir=found.output_dir and found.output_dir.expanduser().resolve(),
        dry_run=found.dry_run,
        json=found.json,
        share=found.share,
        auth=_user_and_password(found.auth),
        open_browser=found.open_browser,
        list_models=found.list_models,
        download=found.fetch,
        verify=found.verify,
        delete=found.delete,
        repair=found.repair,
        yes=found.yes,
        clean_media=found.clean_media,
        accept_licences=tuple(get_licence(name).name for name in found.accept_licence),
    )


def _refuse_mixtures(
    parser: argparse.ArgumentParser, found: argparse.Namespace
) -> None:
    """Exit when options don't go together."""
    if found.process is None and (found.output_dir or found.json):
        parser.error("--output-dir and --json go with --process FILE")
    if found.process is None and not found.clean_media and found.dry_run:
        parser.error("--dry-run goes with --process FILE or --clean-media")
    if found.inspect is None and found.model:
        parser.error("--model goes with --inspect FILE")
    if found.verify is None and found.repair:
        parser.error("--repair goes with --verify ID")
    if found.delete is None and found.yes:
        parser.error("--yes goes with --delete ID")
    tasks = {
        "--process": found.process,
        "--clean-media": found.clean_media,
        "--inspect": found.inspect,
        "--list-models": found.list_models,
        "--download": found.fetch,
        "--verify": found.verify,
        "--delete": found.delete,
    }
    chosen = [name for name, value in tasks.items() if value]
    if len(chosen) > 1:
        parser.error(f"{' and '.join(chosen)} don't go together")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wgp.py",
        description="Makes videos from words: a page in the browser, or --process.",
    )
    described = {
        name: field.description for name, field in Settings.model_fields.items()
    }
    page = parser.add_argument_group("page")
    page.add_argument("--server-port", type=int, help=described["server_port"])
    page.add_argument("--server-name", help=described["server_name"])
    page.add_argument(
        "--listen", action="store_true", help="serve to other machines (0.0.0.0)"
    )
    page.add_argument(
        "--share", action="store_true", help="open a public link through gradio.live"
    )
    page.add_argument(
        "--auth",
        metavar="USER:PASS",
        help="ask for this name and password; --listen and --share make them up",
    )
    page.add_argument(
        "--open-browser", action="store_true", help="open the page when it is ready"
    )
    data = parser.add_argument_group("data and device")
    data.add_argument("--root", type=Path, metavar="DIR", help=described["root"])
    data.add_argument(
        "--settings", type=Path, metavar="DIR", help="folder that holds app.json"
    )
    data.add_argument(
        "--lora-dir", type=Path, metavar="DIR", help=described["lora_dir"]
    )
    data.add_argument(
        "--profile", choices=get_args(ProfileName), help=described["profile"]
    )
    data.add_argument("--attention", metavar="MODE", help=described["attention"])
    data.add_argument("--gpu", metavar="cuda:N", help=described["gpu"])
    data.add_argument(
        "--compile", action="store_true", default=None, help=described["compile"]
    )
    data.add_argument(
        "--products", choices=get_args(ProductsName), help=described["products"]
    )
    data.add_argument(
        "--sidecar", action="store_true", default=None, help=described["sidecar"]
    )
    _add_download_options(data, described)
    data.add_argument("--verbose", type=int, metavar="N", help=described["verbose"])
    _add_licence_option(data)
    _add_process_options(parser)
    _add_inspect_options(parser)
    _add_model_options(parser)
    return parser


def _add_download_options(
    data: argparse._ArgumentGroup, described: Mapping[str, str | None]
) -> None:
    data.add_argument(
        "--no-download",
        action="store_const",
        const=False,
        dest="download",
        help="never download a model's files",
    )
    data.add_argument(
        "--offline", action="store_true", default=None, help=described["offline"]
    )
    data.add_argument(
        "--bandwidth", type=float, metavar="N", help=described["bandwidth"]
    )
    data.add_argument(
        "--download-to", choices=("cache", "ckpts"), help=described["download_to"]
    )
    data.add_argument(
        "--model-dir",
        type=Path,
        action="append",
        dest="model_dirs",
        metavar="DIR",
        help=described["model_dirs"],
    )


def _add_licence_option(data: argparse._ArgumentGroup) -> None:
    data.add_argument(
        "--accept-licence",
        action="append",
        default=[],
        metavar="NAME",
        help="accept a licence that some models have, for this folder of data",
    )


def _add_process_options(parser: argparse.ArgumentParser) -> None:
    file = parser.add_argument_group("without a page")
    file.add_argument(
        "--process",
        metavar="FILE",
        help="run the requests in FILE: JSON (one or a list) or a saved queue",
    )
    file.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="where the videos go"
    )
    file.add_argument(
        "--dry-run",
        action="store_true",
        help="only check FILE and show the requests, or what would be deleted",
    )
    file.add_argument(
        "--json", action="store_true", help="print one JSON event per line"
    )
    file.add_argument(
        "--clean-media",
        action="store_true",
        help="delete input media that nothing has needed for 30 days",
    )


def _add_inspect_options(parser: argparse.ArgumentParser) -> None:
    file = parser.add_argument_group("a look at a file")
    file.add_argument(
        "--inspect",
        metavar="FILE",
        help="say what a checkpoint, LoRA, queue, request or video is, as JSON",
    )
    file.add_argument(
        "--model", metavar="ID", help="whether this model could use the checkpoint"
    )


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models")
    group.add_argument(
        "--list-models",
        action="store_true",
        help="say of each model what is on this disk",
    )
    group.add_argument(
        "--download", metavar="ID", dest="fetch", help="fetch this model's files"
    )
    group.add_argument("--verify", metavar="ID", help="compare its files' hashes")
    group.add_argument(
        "--delete", metavar="ID", help="delete the files that no other model needs"
    )
    group.add_argument(
        "--repair",
        action="store_true",
        help="with --verify: fetch what is damaged again",
    )
    group.add_argument(
        "--yes", action="store_true", help="with --delete: don't ask whether to"
    )


def _user_and_password(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise UserError("--auth takes a name and a password: --auth USER:PASS")
    return user, password


def _is_loopback(server_name: str) -> bool:
    if server_name == "localhost":
        return True
    try:
        return ip_address(server_name).is_loopback
    except ValueError:
        return False
