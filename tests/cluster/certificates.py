"""The keys of a cluster, made by openssl: one CA, server and client certificates, the pair that signs ServiceAccount tokens."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr[-500:]}")


class Keys:
    """A folder of PEM files `<name>.crt` and `<name>.key`, with the CA's `ca.crt`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def authority(self) -> None:
        """Makes the CA and the ServiceAccount key pair (sa.key, sa.pub)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        _openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=kofagent-test-cluster",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout",
            self.key("ca"),
            "-out",
            self.cert("ca"),
        )
        _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.key("sa"))
        _openssl("pkey", "-in", self.key("sa"), "-pubout", "-out", str(self.folder / "sa.pub"))

    def issue(self, name: str, subject: str, names: Sequence[str] = ()) -> None:
        """A certificate for server and client use; `subject` as /O=group/CN=user, `names` as IP:127.0.0.1 or DNS:localhost."""
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        # Python 3.13 verifies strictly by RFC 5280: a CA says what it is for, a certificate whose it is
        lines = [
            "subjectKeyIdentifier=hash",
            "authorityKeyIdentifier=keyid",
            "keyUsage=critical,digitalSignature,keyEncipherment",
            "extendedKeyUsage=serverAuth,clientAuth",
        ]
        if names:
            lines.append("subjectAltName=" + ",".join(names))
        extensions.write_text("\n".join(lines) + "\n")
        _openssl(
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            subject,
            "-keyout",
            self.key(name),
            "-out",
            str(request),
        )
        _openssl(
            "x509",
            "-req",
            "-in",
            str(request),
            "-CA",
            self.cert("ca"),
            "-CAkey",
            self.key("ca"),
            "-CAcreateserial",
            "-days",
            "30",
            "-extfile",
            str(extensions),
            "-out",
            self.cert(name),
        )
        request.unlink()
        extensions.unlink()

    def self_signed(self, name: str, subject: str, names: Sequence[str] = ()) -> None:
        """A certificate no CA has signed, as a kubelet makes for itself."""
        more = ("-addext", "subjectAltName=" + ",".join(names)) if names else ()
        _openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-subj",
            subject,
            *more,
            "-keyout",
            self.key(name),
            "-out",
            self.cert(name),
        )

    def cert(self, name: str) -> str:
        """The path of a certificate."""
        return str(self.folder / f"{name}.crt")

    def key(self, name: str) -> str:
        """The path of a private key."""
        return str(self.folder / f"{name}.key")

    def kubeconfig(self, server: str, user: str, *, token: str | None = None, namespace: str = "default") -> dict[str, Any]:
        """A kubeconfig (JSON is YAML) that holds all it needs, for a certificate of this folder or a token."""

        def data(path: str) -> str:
            return base64.b64encode(Path(path).read_bytes()).decode()

        credentials = (
            {"token": token}
            if token
            else {"client-certificate-data": data(self.cert(user)), "client-key-data": data(self.key(user))}
        )
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": data(self.cert("ca"))}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user, "namespace": namespace}}],
            "users": [{"name": user, "user": credentials}],
        }
