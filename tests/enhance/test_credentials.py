import importlib.util
import json
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from undistill.base.errors import Failure, UsageError
from undistill.enhance.credentials import Credentials, read_credentials, signed
from undistill.enhance.provenance import COMPOSITE, GENERATED
from undistill.images import decode
from undistill.images.metadata import SIGNED

c2pa = pytest.importorskip("c2pa")


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A chain of a test authority and a signer, and the signer's key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(of: str) -> x509.Name:
        parts = {NameOID.ORGANIZATION_NAME: "Test", NameOID.COMMON_NAME: of}
        return x509.Name([x509.NameAttribute(*part) for part in parts.items()])

    def usage(*, sign: bool) -> x509.KeyUsage:
        return x509.KeyUsage(sign, False, False, False, False, not sign, not sign, False, False)

    authority, signer = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    chain: list[bytes] = []
    for number, (of, key) in enumerate((("authority", authority), ("signer", signer))):
        made = (
            x509.CertificateBuilder(name("authority"), name(of), key.public_key(), number + 1)
            .not_valid_before(datetime(2026, 1, 1))
            .not_valid_after(datetime(2056, 1, 1))
            .add_extension(x509.BasicConstraints(key is authority, None), critical=True)
            .add_extension(usage(sign=key is signer), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        )
        if key is signer:
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        chain.insert(0, made.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
    folder = tmp_path_factory.mktemp("pems")
    (folder / "chain.pem").write_bytes(b"".join(chain))
    (folder / "key.pem").write_bytes(signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "chain.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def credentials(pems: tuple[Path, Path]) -> Credentials:
    return read_credentials(*pems)


def file(format: str, light: int = 90) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (32, 24), (light, 20, 30)).save(buffer, format)
    return buffer.getvalue()


def manifest(data: bytes, format: str) -> dict[str, Any]:
    """The active one, of which nothing but the test authority is in doubt."""
    with c2pa.Reader(f"image/{format.lower()}", BytesIO(data)) as reader:
        found = json.loads(reader.json())
    assert {each["code"] for each in found.get("validation_status", [])} <= {"signingCredential.untrusted"}
    active: dict[str, Any] = found["manifests"][found["active_manifest"]]
    return active


def edited(manifest: dict[str, Any]) -> list[str]:
    (actions,) = [
        each["data"]["actions"] for each in manifest["assertions"] if each["label"].startswith("c2pa.actions")
    ]
    return [action["digitalSourceType"] for action in actions if "digitalSourceType" in action]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_the_manifest_before_becomes_an_ingredient(format: str, credentials: Credentials) -> None:
    first = signed(file(format), format, file("PNG", 1), GENERATED, credentials)
    assert edited(manifest(first, format)) == [GENERATED]
    assert decode(BytesIO(first)).notes == [SIGNED]  # a manifest that is dropped is said
    second = signed(file("PNG", 200), "PNG", first, COMPOSITE, credentials)
    active = manifest(second, "PNG")
    (ingredient,) = active["ingredients"]
    assert ingredient["relationship"] == "parentOf"
    assert ingredient["active_manifest"] == manifest(first, format)["label"]
    assert edited(active) == [COMPOSITE]
    assert decode(BytesIO(second)).pixels[0, 0].tolist() == [200, 20, 30]


def test_what_can_hold_no_manifest_is_made_anew(credentials: Credentials) -> None:
    made = signed(file("PNG"), "PNG", file("BMP"), COMPOSITE, credentials)
    assert edited(manifest(made, "PNG")) == [COMPOSITE]


def test_certificates_that_do_not_do_are_refused(pems: tuple[Path, Path], tmp_path: Path) -> None:
    chain, key = pems
    with pytest.raises(UsageError, match=r"none\.pem can't be read: No such file"):
        read_credentials(tmp_path / "none.pem", key)
    with pytest.raises(UsageError, match=r"chain\.pem is no private key"):
        read_credentials(chain, chain)
    (tmp_path / "other.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(UsageError, match=r"other\.pem: can't be signed") as refused:
        read_credentials(tmp_path / "other.pem", key)
    assert "\n" not in str(refused.value)


def test_a_key_is_not_shown(credentials: Credentials) -> None:
    assert "PRIVATE" not in repr(credentials)


def test_without_the_library_it_says_what_to_install(pems: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Failure, match=r"undistill\[c2pa\]"):
        read_credentials(*pems)
