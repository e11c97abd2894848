"""HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Go's net/http reads them."""

from __future__ import annotations

import pytest
from yarl import URL

from kofagent.net.proxy import environment_proxy, is_direct
from kofagent.prometheus.client_config import ProxyOptions
from kofagent.prometheus.credentials import proxy_for

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
        ({"HTTP_PROXY": PROXY, "REQUEST_METHOD": ""}, "http://api.test", PROXY),
        ({"HTTPS_PROXY": PROXY, "REQUEST_METHOD": "GET"}, "https://api.test", PROXY),
        ({"HTTPS_PROXY": "", "https_proxy": PROXY}, "https://api.test", PROXY),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "other.test", "no_proxy": "api.test"}, "https://api.test", PROXY),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "", "no_proxy": "api.test"}, "https://api.test", None),
        ({"HTTPS_PROXY": PROXY}, "ftp://api.test", None),
        ({"ALL_PROXY": PROXY}, "https://api.test", None),
        ({"HTTPS_PROXY": PROXY}, "https://127.0.0.1:6443", None),
        ({"HTTPS_PROXY": PROXY}, "https://[::1]:6443", None),
        ({"HTTPS_PROXY": PROXY}, "https://localhost:6443", None),
        ({"HTTPS_PROXY": PROXY}, "https://10.96.0.1:443", PROXY),
    ],
)
def test_which_variable_counts(environ: dict[str, str], url: str, proxy: str | None) -> None:
    assert environment_proxy(url, environ) == proxy


LISTED = [
    # (list, url, direct): checked against golang.org/x/net/http/httpproxy
    ("*", "https://api.test", True),
    ("other.test,*", "https://10.0.0.1", True),
    ("10.96.0.1", "https://10.96.0.1", True),
    ("10.96.0.1", "https://10.96.0.10", False),
    ("other.test, 10.0.0.0/8", "https://10.96.0.1:443", True),
    ("10.0.0.0/8", "https://localhost:9100", True),
    ("10.0.0.0/8", "http://127.0.0.2:9100", True),
    ("192.168.0.0/16", "https://10.96.0.1:443", False),
    ("10.96.0.1:443", "https://10.96.0.1", True),
    ("10.96.0.1:6443", "https://10.96.0.1", False),
    ("10.0.0.0/8:443", "https://10.96.0.1", False),
    ("10.0.0.0/99", "https://10.0.0.1", False),
    ("10.0.0.0/255.0.0.0", "https://10.0.0.1", False),
    ("10.0.0.0/30", "http://10.0.0.4", False),
    ("0.0.1", "http://10.0.0.1", False),
    ("::ffff:10.0.0.1", "http://10.0.0.1", True),
    ("10.0.0.1", "http://[::ffff:10.0.0.1]", True),
    ("fd00::/8", "https://[fd00::1]", True),
    ("fd00::1", "https://[fd00::1]", True),
    ("fd00::1", "https://[fd00::2]", False),
    ("[fd00::1]:443", "https://[fd00::1]", True),
    ("[fd00::1]:444", "https://[fd00::1]", False),
    ("[fd00::1]", "https://[fd00::1]", False),
    ("fd00::1:80", "http://[fd00::1]", False),
    ("x.test", "http://[::1]:9100", True),
    ("[::2]:9100", "http://[::2]:9100", True),
    ("[::2]:9101", "http://[::2]:9100", False),
    ("example.com", "http://[1000::%25.example.com]:123", False),
    ("example.com", "https://example.com", True),
    ("EXAMPLE.com", "https://Api.Example.com", True),
    ("example.com", "https://notexample.com", False),
    ("example.com", "https://example.com.", False),
    (".example.com", "https://api.example.com", True),
    (".example.com", "https://example.com", False),
    ("*.example.com", "https://api.example.com", True),
    ("*.example.com", "https://example.com", False),
    ("*example.com", "https://example.com", False),
    ("example.com:443", "https://api.example.com", True),
    (".example.com:8443", "https://api.example.com:8443", True),
    ("example.com:8443", "https://api.example.com", False),
    ("example.com:", "https://api.example.com", True),
    ("example.com:https", "https://api.example.com", False),
    (":443", "https://api.test", False),
    (" ,,", "https://api.test", False),
    (".\u793a\u4f8b.com", "http://www.\u793a\u4f8b.com", True),
    ("xn--fsq092h.com", "http://www.\u793a\u4f8b.com", True),
    ("\u793a\u4f8b.com", "http://www.xn--fsq092h.com", True),
    ("\u793a..\u4f8b.com", "http://api.test", False),
    ("localhost.net", "http://localhost.test", False),
]


@pytest.mark.parametrize("no_proxy, url, direct", LISTED)
def test_what_no_proxy_lists(no_proxy: str, url: str, direct: bool) -> None:
    environ = {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY, "no_proxy": no_proxy}
    assert environment_proxy(url, environ) == (None if direct else PROXY)
    assert is_direct(no_proxy, URL(url)) == direct
    assert proxy_for(ProxyOptions(proxy_url=PROXY, no_proxy=no_proxy), URL(url)) == (None if direct else PROXY)


@pytest.mark.parametrize("url", ["http://localhost:9100", "http://127.0.0.1:9100", "http://[::1]:9100"])
def test_the_options_proxy_alone_is_for_loopback_too_as_in_prometheus(url: str) -> None:
    assert proxy_for(ProxyOptions(proxy_url=PROXY), URL(url)) == PROXY
    assert proxy_for(ProxyOptions(proxy_url=PROXY, no_proxy="x.test"), URL(url)) is None


def test_a_proxy_that_cannot_be_used_is_said_without_its_password() -> None:
    with pytest.raises(
        ValueError, match=r"HTTPS_PROXY is not the URL of an http or https proxy; list api\.test in NO_PROXY"
    ) as error:
        environment_proxy("https://api.test", {"HTTPS_PROXY": "socks5://me:hidden@p:1080"})
    assert "hidden" not in str(error.value)
