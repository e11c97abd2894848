"""TLS contexts from upstream's `tls` blocks (configtls). Every problem is a StartError that names the file and the option."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from kofagent.component.protocols import StartError
from kofagent.config.blocks import TlsBlock, TlsClientBlock, TlsServerBlock

_VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}


def client_context(tls: TlsClientBlock) -> ssl.SSLContext:
    """A client's context: verifies the server unless `insecure_skip_verify`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _apply_common(context, tls)
    if tls.ca_file or tls.ca_pem:
        _load_ca(context, tls)
        if tls.include_system_ca_certs_pool:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    _load_own(context, tls)
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def server_context(tls: TlsServerBlock) -> ssl.SSLContext:
    """A server's context: needs a certificate; with `client_ca_file` a client must show one of that CA."""
    if not (tls.cert_file or tls.cert_pem) or not (tls.key_file or tls.key_pem):
        raise StartError("tls of a server needs cert_file and key_file (or cert_pem and key_pem)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _apply_common(context, tls)
    _load_own(context, tls)
    if tls.client_ca_file:
        try:
            context.load_verify_locations(cafile=tls.client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise StartError(f"tls.client_ca_file {tls.client_ca_file}: {_why(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _apply_common(context: ssl.SSLContext, tls: TlsBlock) -> None:
    context.minimum_version = _VERSIONS[tls.min_version or "1.2"]
    if tls.max_version:
        context.maximum_version = _VERSIONS[tls.max_version]
    if tls.cipher_suites:
        try:
            context.set_ciphers(":".join(_openssl_name(name) for name in tls.cipher_suites))
        except ssl.SSLError:
            raise StartError(f"tls.cipher_suites: none of {', '.join(tls.cipher_suites)} is known") from None


def _openssl_name(name: str) -> str:
    """OpenSSL's name of a TLS 1.2 suite in Go's spelling: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256."""
    if not name.startswith("TLS_") or "_WITH_" not in name:
        return name
    exchange, cipher = name[4:].split("_WITH_", 1)
    cipher = cipher.replace("AES_128", "AES128").replace("AES_256", "AES256").replace("_CBC", "")
    cipher = cipher.replace("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305")
    prefix = "" if exchange == "RSA" else exchange.replace("_", "-") + "-"
    return prefix + cipher.replace("_", "-")


def _load_ca(context: ssl.SSLContext, tls: TlsBlock) -> None:
    try:
        if tls.ca_pem:
            context.load_verify_locations(cadata=tls.ca_pem.get_secret_value())
        else:
            context.load_verify_locations(cafile=tls.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"tls.ca_file {tls.ca_file or '(ca_pem)'}: {_why(error)}") from None


def _load_own(context: ssl.SSLContext, tls: TlsBlock) -> None:
    has_cert, has_key = bool(tls.cert_file or tls.cert_pem), bool(tls.key_file or tls.key_pem)
    if not has_cert and not has_key:
        return
    if has_cert != has_key:
        raise StartError("tls: cert_file and key_file go together; one of them is missing")
    with _file_of(tls.cert_file, tls.cert_pem) as cert, _file_of(tls.key_file, tls.key_pem) as key:
        try:
            context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as error:
            raise StartError(
                f"tls.cert_file {tls.cert_file or '(cert_pem)'}, key_file {tls.key_file or '(key_pem)'}: {_why(error)}"
            ) from None


@contextmanager
def _file_of(path: str, pem: object) -> Iterator[str]:
    """OpenSSL loads certificates from files only: PEM text goes through a private file that is gone at once."""
    if pem is None:
        yield path
        return
    handle, name = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "w") as file:
            file.write(pem.get_secret_value())  # type: ignore[attr-defined]
        yield name
    finally:
        os.unlink(name)


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not a usable PEM file ({error.reason or 'no certificate in it'})"
    return getattr(error, "strerror", None) or type(error).__name__
