"""What the command line means."""

import json
from pathlib import Path

import pytest

from app.options import parse
from engine.errors import UnreadableFile, UserError


def test_without_options_the_page_is_for_this_machine_only(tmp_path: Path) -> None:
    options = parse(["--root", str(tmp_path)])
    assert options.settings.server_name == "127.0.0.1"
    assert options.settings.server_port == 7860
    assert not options.is_open_to_others


@pytest.mark.parametrize(
    "argv",
    [["--listen"], ["--share"], ["--server-name", "192.168.1.7"]],
    ids=" ".join,
)
def test_page_that_others_can_reach_says_so(argv: list[str], tmp_path: Path) -> None:
    assert parse([*argv, "--root", str(tmp_path)]).is_open_to_others


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.0.0.2", "::1"])
def test_loopback_names_are_not_open_to_others(name: str, tmp_path: Path) -> None:
    options = parse(["--server-name", name, "--root", str(tmp_path)])
    assert not options.is_open_to_others


def test_option_wins_over_settings_file(tmp_path: Path) -> None:
    (tmp_path / "app.json").write_text(
        json.dumps({"server_port": 1111, "profile": "4", "compile": True})
    )
    options = parse(
        ["--settings", str(tmp_path), "--server-port", "2222", "--root", str(tmp_path)]
    )
    assert options.settings.server_port == 2222
    assert options.settings.profile == "4"
    assert options.settings.compile is True


def test_sidecar_is_an_option_too(tmp_path: Path) -> None:
    assert not parse(["--root", str(tmp_path)]).settings.sidecar
    assert parse(["--root", str(tmp_path), "--sidecar"]).settings.sidecar


def test_downloads_can_be_forbidden(tmp_path: Path) -> None:
    assert parse(["--root", str(tmp_path)]).settings.download
    assert not parse(["--root", str(tmp_path), "--no-download"]).settings.download


def test_settings_file_is_looked_for_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "app.json").write_text('{"attention": "sdpa"}')
    assert parse(["--root", str(tmp_path)]).settings.attention == "sdpa"


def test_root_and_output_folder_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = parse(["--root", "data", "--process", "x.json", "--output-dir", "out"])
    assert options.settings.root == tmp_path / "data"
    assert options.output_dir == tmp_path / "out"


def test_broken_settings_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "app.json").write_text('{"profile": "9"}')
    with pytest.raises(UnreadableFile, match="'profile'"):
        parse(["--settings", str(tmp_path), "--root", str(tmp_path)])


def test_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match=r"--root: .*file is a file, not a folder"):
        parse(["--root", str(file)])
    with pytest.raises(UserError, match=r"--settings: there is no folder .*gone"):
        parse(["--root", str(tmp_path), "--settings", str(tmp_path / "gone")])


@pytest.mark.parametrize("text", ["bob", "bob:", ":secret"])
def test_auth_without_name_or_password_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="USER:PASS"):
        parse(["--auth", text])


def test_password_may_hold_a_colon() -> None:
    assert parse(["--auth", "bob:a:b"]).auth == ("bob", "a:b")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--dry-run", "--dry-run goes with --process"),
        ("--repair", "--repair goes with --verify"),
        ("--yes", "--yes goes with --delete"),
        ("--process a.json --inspect b", "--process and --inspect don't go together"),
        ("--verify a --clean-media", "--clean-media and --verify don't go together"),
        ("--delete a --download b", "--download and --delete don't go together"),
    ],
)
def test_options_that_say_nothing_together_are_refused(
    capsys: pytest.CaptureFixture[str], options: str, said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(options.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_folders_of_models_add_up_and_downloads_are_set(tmp_path: Path) -> None:
    options = ["--root", str(tmp_path), "--model-dir", "/a", "--model-dir", "/b"]
    options += ["--bandwidth", "2.5", "--download-to", "ckpts", "--offline"]
    settings = parse(options).settings
    assert settings.model_dirs == (Path("/a"), Path("/b"))
    assert (settings.bandwidth, settings.download_to) == (2.5, "ckpts")
    assert settings.offline
    with pytest.raises(UserError, match="bandwidth"):
        parse(["--root", str(tmp_path), "--bandwidth", "-1"])


def test_options_about_models_are_told_from_the_page(tmp_path: Path) -> None:
    assert parse(["--delete", "wan-demo"]).is_about_models
    assert not parse(["--root", str(tmp_path)]).is_about_models
