"""Google Drive with gdown's own code, from a server that plays Drive."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import Page, Server, Toys, arrived, get, refused, remains, toy_checkpoint

from ilvrctl import paths
from ilvrctl.hub import limits

pytest_plugins = ("downloads",)
pytestmark = pytest.mark.usefixtures("in_a_hurry")

ID = "1AbCdEfGhIjKlMnOpQrStUvWxYz012345"
OTHER = "1ZyXwVuTsRqPoNmLkJiHgFeDcBa543210"


def test_a_large_file_behind_the_page_that_asks_for_confirmation(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"gdrive:{ID}")
    drive.drive(ID, toys.body)
    arrived(get(), toys, path)
    assert drive.log == ["/drive.google.com/uc", "/drive.usercontent.google.com/download"]


def test_a_link_copied_from_the_browser_is_a_file_on_drive(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"https://drive.google.com/file/d/{ID}/view?usp=sharing")
    drive.drive(ID, toys.body)
    arrived(get(), toys, path)


def test_over_its_quota_and_the_ways_out(drive: Server, toys: Toys) -> None:
    toys.preset(f"gdrive:{ID}")
    drive.over_quota(ID)
    refused(get(), 1, "quota for today", "--cookies FILE", "--url URL", "download toy --file PATH")


def test_over_its_quota_and_then_a_mirror(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"gdrive:{ID}", "https://mirror.example/toy.pt")
    drive.over_quota(ID)
    drive.put("mirror.example/toy.pt", toys.body)
    ran = get()
    arrived(ran, toys, path)
    assert "quota" in ran.err


def test_gone_from_drive(drive: Server, toys: Toys) -> None:
    toys.preset(f"gdrive:{ID}")
    drive.drive(OTHER, toys.body)
    refused(get(), 1, "gone, private or over its quota")


def test_a_connection_cut_twice_goes_on_where_it_stopped(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"gdrive:{ID}")
    # gdown asks for the whole file once more before it asks for the rest of it
    file = drive.drive(ID, toys.body, cuts=[0.6, 1, 0.8, 1])
    arrived(get(), toys, path)
    assert len([asked for asked in file.asked if "range" in asked]) == 2


def test_a_cut_in_one_run_is_made_good_in_the_next(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"gdrive:{ID}")
    file = drive.drive(ID, toys.body, cuts=[0.6])
    ran = get("--retries", "0")
    refused(ran, 1, "are kept, and the same command goes on")
    arrived(get(), toys, path)
    assert int(file.asked[-1]["range"][6:-1]) >= 512 * 1024


def test_a_file_that_changed_in_between_is_not_pieced_together(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"gdrive:{ID}")
    drive.drive(ID, toy_checkpoint(1) + b"longer", cuts=[0.6])
    refused(get("--retries", "0"), 1)
    drive.drive(ID, toys.body)
    arrived(get(), toys, path)


def test_all_bytes_came_before_a_crash(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"gdrive:{ID}")
    drive.drive(ID, toys.body, cuts=[0.6])
    refused(get("--retries", "0"), 1)
    (rest,) = paths.weights_dir().glob("toy.pt.drive*.part")
    rest.write_bytes(toys.body)
    drive.log.clear()
    arrived(get(), toys, path)
    assert drive.log == []


def test_a_drive_without_ranges_is_read_from_the_beginning(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"gdrive:{ID}")
    drive.drive(ID, toys.body, cuts=[0.6], ranges=False)
    arrived(get(), toys, path)


def test_a_wrong_file_from_drive_is_removed(drive: Server, toys: Toys) -> None:
    toys.preset(f"gdrive:{ID}", sha256=toys.sha256)
    drive.drive(ID, toy_checkpoint(1))
    refused(get(), 3, "not the one that was published")
    assert remains() == []


def test_a_file_in_a_folder_by_its_name(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"gdrive-folder:{OTHER}/models.pt")
    drive.drive(ID, toys.body)
    drive.drive_folder(OTHER, {"other.pt": OTHER, "models.pt": ID})
    arrived(get(), toys, path)


def test_a_folder_that_does_not_have_it(drive: Server, toys: Toys) -> None:
    toys.preset(f"gdrive-folder:{OTHER}")
    drive.drive_folder(OTHER, {"other.pt": ID})
    refused(get(), 1, "has no toy.pt", "it has other.pt")


def test_a_folder_that_is_gone(drive: Server, toys: Toys) -> None:
    toys.preset(f"gdrive-folder:{OTHER}")
    refused(get(), 1, "404")


def test_a_file_whose_name_tells_that_it_is_another(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"gdrive:{OTHER}/right.pt", f"gdrive:{ID}/right.pt")
    drive.drive(ID, toys.body, name="right.pt")
    drive.drive(OTHER, toy_checkpoint(1), name="wrong.pt")
    ran = get()
    arrived(ran, toys, path)
    assert f"gdrive:{OTHER} is wrong.pt and not right.pt" in ran.err


def test_a_trickle_is_given_up(drive: Server, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DRIVE_PATIENCE", 1)
    toys.preset(f"gdrive:{ID}")
    drive.drive(ID, toys.body, rate=50)
    refused(get("--timeout", "0.5", "--retries", "0"), 1, "Google Drive is too slow")


def test_pages_that_lead_to_themselves_are_given_up(
    drive: Server, toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DRIVE_PATIENCE", 1)
    toys.preset(f"gdrive:{ID}")
    drive.drive(ID, toys.body)
    confirm = drive.pages["/drive.google.com/uc"]
    assert not isinstance(confirm, Page)
    drive.pages["/drive.usercontent.google.com/download"] = confirm
    refused(get("--timeout", "0.5", "--retries", "0"), 1, "too slow")


def test_a_busy_drive_is_asked_again(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"gdrive:{ID}")
    drive.drive(ID, toys.body, busy=1)
    arrived(get(), toys, path)


def test_cookies_reach_drive_and_their_file_is_left_alone(drive: Server, toys: Toys, tmp_path: Path) -> None:
    path = toys.preset(f"gdrive:{ID}")
    file = drive.drive(ID, toys.body)
    cookies = tmp_path / "cookies.txt"
    text = "# Netscape HTTP Cookie File\n.google.com\tTRUE\t/\tFALSE\t0\tSID\tsecret\n"
    cookies.write_text(text)
    arrived(get("--cookies", cookies), toys, path)
    assert file.asked[0]["cookie"] == "SID=secret"
    assert cookies.read_text() == text


def test_two_files_on_drive_are_not_pieced_together(drive: Server, toys: Toys) -> None:
    path = toys.preset(f"gdrive:{OTHER}", f"gdrive:{ID}")
    drive.drive(OTHER, toy_checkpoint(1), cuts=[0.6, 1, 0.6, 1, 0.6, 1, 0.6])
    drive.drive(ID, toys.body)
    ran = get("--retries", "0")
    arrived(ran, toys, path)
    assert "asking the next source" in ran.err
