"""Who may open the page."""

from pathlib import Path

from app.options import parse
from app.ui.credentials import choose_credentials


def test_local_page_asks_nobody(tmp_path: Path) -> None:
    assert choose_credentials(parse(["--root", str(tmp_path)])) is None


def test_open_page_gets_a_new_password_each_time(tmp_path: Path) -> None:
    options = parse(["--listen", "--root", str(tmp_path)])
    one, other = choose_credentials(options), choose_credentials(options)
    assert one is not None
    assert other is not None
    assert one.made_up
    assert one.user == "wgp"
    assert len(one.password) >= 16
    assert one.password != other.password


def test_given_credentials_are_used_and_not_printed(tmp_path: Path) -> None:
    options = parse(["--share", "--auth", "ann:s3cret", "--root", str(tmp_path)])
    given = choose_credentials(options)
    assert given is not None
    assert not given.made_up
    assert given.match("ann", "s3cret")


def test_wrong_name_or_password_does_not_match(tmp_path: Path) -> None:
    options = parse(["--auth", "ann:s3crét", "--root", str(tmp_path)])
    given = choose_credentials(options)
    assert given is not None
    assert given.match("ann", "s3crét")
    assert not given.match("ann", "s3cret")
    assert not given.match("bob", "s3crét")
    assert not given.match("", "")
