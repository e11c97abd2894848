"""HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Go's net/http reads them."""

from __future__ import annotations

import pytest

from kofagent.net.proxy import environment_proxy

PROXY = "http://proxy.test:3128"


@pytest.mark.parametrize(
    "environ, url, proxy",
    [
        ({}, "https://api.test", None),
        ({"HTTPS_PROXY": PROXY}, "https://api.test:6443", PROXY),
        ({"https_proxy": PROXY}, "https://api.test", PROXY),
        ({"HTTPS_PROXY": PROXY, "https_proxy": "http://other.test"}, "https://api.test", PROXY),
        ({"HTTPS_PROXY": "proxy.test:3128"}, "https://api.test", PROXY),
        ({"HTTPS_PROXY": PROXY}, "http://api.test", None),
        ({"HTTP_PROXY": PROXY}, "http://api.test", PROXY),
        ({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, "http://api.test", None),
        ({"ALL_PROXY": PROXY}, "https://api.test", None),
        ({"HTTPS_PROXY": PROXY}, "https://127.0.0.1:6443", None),
        ({"HTTPS_PROXY": PROXY}, "https://[::1]:6443", None),
        ({"HTTPS_PROXY": PROXY}, "https://localhost:6443", None),
        ({"HTTPS_PROXY": PROXY}, "https://10.96.0.1:443", PROXY),
    ],
)
def test_which_variable_counts(environ: dict[str, str], url: str, proxy: str | None) -> None:
    assert environment_proxy(url, environ) == proxy


@pytest.mark.parametrize(
    "no_proxy, url, direct",
    [
        ("*", "https://api.test", True),
        ("10.96.0.1", "https://10.96.0.1", True),
        ("10.96.0.1", "https://10.96.0.10", False),
        ("other.test, 10.0.0.0/8", "https://10.96.0.1:443", True),
        ("192.168.0.0/16", "https://10.96.0.1:443", False),
        ("10.96.0.1:443", "https://10.96.0.1", True),
        ("10.96.0.1:6443", "https://10.96.0.1", False),
        ("fd00::/8", "https://[fd00::1]", True),
        ("fd00::1", "https://[fd00::1]", True),
        ("[fd00::1]:443", "https://[fd00::1]", True),
        ("[fd00::1]:444", "https://[fd00::1]", False),
        ("example.com", "https://example.com", True),
        ("EXAMPLE.com", "https://Api.Example.com", True),
        ("example.com", "https://notexample.com", False),
        (".example.com", "https://api.example.com", True),
        (".example.com", "https://example.com", False),
        ("*.example.com", "https://api.example.com", True),
        ("*.example.com", "https://example.com", False),
        ("example.com:443", "https://api.example.com", True),
        ("example.com:8443", "https://api.example.com", False),
        (" ,,", "https://api.test", False),
        ("10.0.0.0/99", "https://10.0.0.1", False),
    ],
)
def test_what_no_proxy_lists(no_proxy: str, url: str, direct: bool) -> None:
    assert environment_proxy(url, {"HTTPS_PROXY": PROXY, "no_proxy": no_proxy}) == (None if direct else PROXY)


def test_a_proxy_that_cannot_be_used_is_said_without_its_password() -> None:
    with pytest.raises(
        ValueError, match=r"HTTPS_PROXY is not the URL of an http or https proxy; list api\.test in NO_PROXY"
    ) as error:
        environment_proxy("https://api.test", {"HTTPS_PROXY": "socks5://me:hidden@p:1080"})
    assert "hidden" not in str(error.value)
