import json

import pytest

from engine.errors import UnreadableFile
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
        ('{"server_port": 70000}', "setting 'server_port': "),
        ('{"profile": "9"}', "setting 'profile': "),
        ('{"server_prot": 1}', "setting 'server_prot': "),
        ("[]", r"app\.json isn't a JSON object"),
        ('"text"', r"app\.json isn't a JSON object"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path, text, reason):
    file = tmp_path / "app.json"
    file.write_text(text)
    with pytest.raises(UnreadableFile, match=reason):
        read_settings(file)
