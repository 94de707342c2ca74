"""The folder of page files: private, told to the server, and gone with it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from glyph_pipeline.errors import ConfigError, OutputError, ServerStartError
from glyph_pipeline.serving import GlyphServer, load_profile
from glyph_pipeline.serving.pagefolder import PageFolder, refuse_second_folder

Launch = Callable[..., GlyphServer]
FLAG = "--allowed-local-media-path"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made: behind a symbolic link, as on macOS."""
    real = tmp_path / "temporary"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "link"))
    return real


def test_it_lives_as_long_as_the_server(launch: Launch, folders: Path) -> None:
    with launch(page_folder=True) as server:
        folder = server.page_folder
        assert folder is not None
        assert folder.parent == folders
        assert folder.stat().st_mode & 0o777 == 0o700
        argv = httpx.get(server.base_url.replace("/v1", "/argv"), trust_env=False).json()
        assert argv.count(FLAG) == 1
        assert argv[argv.index(FLAG) + 1] == str(folder)
        (folder / "page.png").touch()
        assert server.pid is not None
        os.kill(server.pid, 9)
        assert server.revive()
        assert (folder / "page.png").is_file()
    assert list(folders.iterdir()) == []
    server.stop()


def test_without_one(launch: Launch, folders: Path, tmp_path: Path) -> None:
    with launch() as server:
        assert server.page_folder is None
        assert FLAG not in httpx.get(server.base_url.replace("/v1", "/argv"), trust_env=False).json()
    with launch("ready", FLAG, str(tmp_path)) as server:
        assert server.page_folder is None
        assert str(tmp_path) in httpx.get(server.base_url.replace("/v1", "/argv"), trust_env=False).json()
    assert list(folders.iterdir()) == []


@pytest.mark.parametrize("theirs", [[f"{FLAG}=/srv"], ["--allowed_local_media_path", "/srv"]])
def test_two_folders_cannot_be(launch: Launch, folders: Path, theirs: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"--allowed-local-media-path /srv and a page folder of our own"):
        launch("ready", *theirs, page_folder=True)
    with pytest.raises(ConfigError, match="vLLM reads files from one folder"):
        refuse_second_folder(load_profile("nvidia").args, theirs)
    assert list(folders.iterdir()) == []


def test_a_failed_launch_leaves_none(launch: Launch, folders: Path) -> None:
    with pytest.raises(ServerStartError):
        launch("dies", page_folder=True)
    with pytest.raises(ConfigError):
        launch(page_folder=True, port=0)
    assert list(folders.iterdir()) == []


def test_no_room_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match="folder for page files could not be made: No such file"):
        PageFolder()


def test_it_goes_with_its_owner_and_not_with_a_fork(folders: Path) -> None:
    folder = PageFolder()
    child = os.fork()
    if child == 0:
        folder.remove()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.is_dir()
    del folder
    assert list(folders.iterdir()) == []


def test_it_goes_while_pages_are_written(folders: Path) -> None:
    folder = PageFolder()
    begun = threading.Event()

    def write() -> None:
        try:
            for number in range(100_000):
                (folder.path / f"{number}.png").touch()
                begun.set()
        except FileNotFoundError:
            pass

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(60)
    folder.remove()
    writer.join(60)
    assert list(folders.iterdir()) == []
