"""A server of the S3 protocol on this machine (moto), found by s3fs through the environment, as a real one is."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# It ends with its standard input, so also if whoever started it is killed.
_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""
_numbers = itertools.count(1)


@contextmanager
def s3_server() -> Iterator[str]:
    """The server's URL; for the block it is where s3fs of this process and its children looks."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process, pytest.MonkeyPatch.context() as patch:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            patch.setenv("AWS_ENDPOINT_URL", url)
            patch.setenv("AWS_ACCESS_KEY_ID", "key")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_MAX_ATTEMPTS", "1")
            for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
                patch.setenv(name, "/dev/null")
            _forget()
            yield url
        finally:
            _forget()
            process.stdin.close()
            process.wait(60)


def new_bucket() -> str:
    """The URL of a bucket with nothing in it."""
    from s3fs import S3FileSystem

    name = f"bucket-{next(_numbers)}"
    S3FileSystem().mkdir(name)
    return f"s3://{name}"


def _forget() -> None:
    """fsspec keeps file systems with the server that they were made for."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
