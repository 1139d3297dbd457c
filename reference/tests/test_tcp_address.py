"""Addresses as people write them."""

from __future__ import annotations

import errno
import socket

import pytest
from muxwire.errors import InvalidArgument
from muxwire.tcp.address import explain, parse, render


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9000", "127.0.0.1", 9000),
        ("localhost:0", "localhost", 0),
        ("worker-1.example:65535", "worker-1.example", 65535),
        ("[::1]:9000", "::1", 9000),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("h:00080", "h", 80),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse(text) == (host, port)
    assert parse(render(host, port)) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "9000",
        "host",
        "host:",
        ":9000",
        "host:http",
        "host:-1",
        "host:+1",
        "host: 80",
        "host:65536",
        "host:99999999999999999999",
        "host:\u0663",
        "::1",
        "::1:9000",
        "[::1]",
        "[::1]9000",
        "[::1]:",
        "[]:9000",
        "[::1:9000",
        "http://host:80",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_an_address_without_brackets_is_shown_with_them() -> None:
    with pytest.raises(InvalidArgument, match=r"\[::1\]:9000"):
        parse("::1:9000")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('::1', 1)"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError("Multiple exceptions: all of them"), "Multiple exceptions: all of them"),
    ],
)
def test_an_error_is_explained_in_a_few_words(error: OSError, text: str) -> None:
    assert explain(error) == text
