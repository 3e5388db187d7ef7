import json

import pytest

from app.options import parse
from engine.errors import UnreadableFile, UserError
from engine.settings import PROJECT, read_settings


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path):
    file = tmp_path / "app.json"
    file.write_text(json.dumps({"server_port": 8000, "profile": "4"}))
    settings = read_settings(file, server_port=9000)
    assert (settings.server_port, settings.profile) == (9000, "4")
    assert settings.server_name == "127.0.0.1"


def test_without_a_file_all_is_default(tmp_path):
    settings = read_settings(tmp_path / "none.json", root=tmp_path)
    assert settings.outputs == tmp_path / "outputs"
    assert settings.weights == (tmp_path / "ckpts", PROJECT / "ckpts")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", r"app\.json isn't JSON"),
        ('{"server_port": 70000}', r"app\.json: 'server_port': input should be less"),
        ('{"profile": "9"}', r"app\.json: 'profile': "),
        ('{"server_prot": 1}', "'server_prot': no such .* mean 'server_port'"),
        ("[]", r"app\.json isn't a JSON object"),
        ('"text"', r"app\.json isn't a JSON object"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path, text, reason):
    file = tmp_path / "app.json"
    file.write_text(text)
    with pytest.raises(UnreadableFile, match=reason):
        read_settings(file)


def test_a_wrong_option_is_named_as_it_was_typed(tmp_path):
    with pytest.raises(UnreadableFile, match=r"^--server-port: input should be less"):
        read_settings(tmp_path / "app.json", server_port=70000)


def test_a_file_that_cant_be_read_is_a_sentence(tmp_path):
    with pytest.raises(UnreadableFile, match=r"can't read .*: Is a directory"):
        read_settings(tmp_path)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "app.json"
    file.write_text('{"server_port": 8000}', encoding="utf-8-sig")
    assert read_settings(file).server_port == 8000


def test_the_root_in_the_file_is_used_and_the_option_wins(tmp_path):
    file = tmp_path / "app.json"
    file.write_text(json.dumps({"root": str(tmp_path / "kept")}))
    options = parse(["--settings", str(tmp_path)])
    assert options.settings.outputs == tmp_path / "kept" / "outputs"
    other = tmp_path / "other"
    options = parse(["--settings", str(tmp_path), "--root", str(other)])
    assert options.settings.root == other


def test_a_root_that_is_no_path_is_refused(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for root in (loop, tmp_path / ("a" * 300)):
        with pytest.raises(UserError, match="--root"):
            parse(["--root", str(root)])


def test_a_key_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "app.json"
    file.write_text('{"\\ud800": 1}')
    with pytest.raises(UnreadableFile, match=r"app\.json"):
        read_settings(file)
