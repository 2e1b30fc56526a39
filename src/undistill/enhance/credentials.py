"""Content credentials: a manifest that the user signs (C2PA), by c2pa-python of the extra `c2pa`.

The file before becomes the ingredient of the new one, and with it the manifest that it may have. Nothing is asked of
the network, a time-stamp authority included. A manifest has random names in it: a file that is signed twice has not the
same bytes.
"""

import importlib.util
from dataclasses import dataclass, field
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from undistill.base.errors import Failure, UsageError
from undistill.enhance.provenance import GENERATED
from undistill.images import ImageError, format_of, png

_NOTHING_ASKED = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
_CURVES = {256: "ES256", 384: "ES384", 521: "ES512"}
_BMP = b"BM"


@dataclass(frozen=True)
class Credentials:
    """What a manifest is signed with.

    Args:
        chain: certificates, PEM, the signer's first.
        key: the signer's, PEM.
        algorithm: C2PA's name of it.
    """

    chain: bytes
    key: bytes = field(repr=False)
    algorithm: str


def read_credentials(chain: Path, key: Path) -> Credentials:
    """Read and try them.

    Raises:
        UsageError: they can't be read or used.
        Failure: c2pa-python is not installed.
    """
    if importlib.util.find_spec("c2pa") is None:
        raise Failure("content credentials need c2pa-python: pip install 'undistill[c2pa]'")
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    read = []
    for path in (chain, key):
        try:
            read.append(path.read_bytes())
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror}") from error
    try:
        credentials = Credentials(read[0], read[1], _algorithm(load_pem_private_key(read[1], None)))
    except (ValueError, TypeError, KeyError) as error:  # TypeError: it needs a password
        raise UsageError(f"{key} is no private key that can be signed with: give PEM, without a password") from error
    pixel = png(np.zeros((1, 1, 3), np.uint8))
    try:
        signed(pixel, "PNG", pixel, GENERATED, credentials)
    except ImageError as error:
        raise UsageError(f"{chain}: {error}") from error
    return credentials


def _algorithm(key: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _CURVES[key.curve.key_size]
    if isinstance(key, rsa.RSAPrivateKey):
        return "PS256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ED25519"
    raise ValueError("of another kind")


def signed(data: bytes, format: str, source: bytes, source_type: str, credentials: Credentials) -> bytes:
    """A file with a manifest that names the file before as what it was made of.

    Args:
        data: the new file.
        format: its, by Pillow's name.
        source: the file before, with its manifest, if it has one.
        source_type: the IPTC's digital source type of the new one.

    Raises:
        ImageError: it can't be signed.
    """
    import c2pa

    made_by = {"name": "undistill", "version": version("undistill")}
    to = BytesIO()
    try:
        info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg[credentials.algorithm], credentials.chain, credentials.key, None)
        context = c2pa.Context.from_dict(_NOTHING_ASKED)
        manifest = {"claim_generator_info": [made_by], "format": _mime(format)}
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest, context) as builder:
            if source.startswith(_BMP):  # which holds no manifest
                kinds = c2pa.C2paDigitalSourceType
                generated, composite = kinds.TRAINED_ALGORITHMIC_MEDIA, kinds.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA
                kind = generated if source_type == GENERATED else composite
                builder.set_intent(c2pa.C2paBuilderIntent.CREATE, kind)
            else:
                builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
                before = "GIF" if source.startswith(b"GIF8") else format_of(source)
                builder.add_ingredient({"relationship": "parentOf"}, _mime(before), BytesIO(source))
                builder.add_action(
                    {"action": "c2pa.edited", "digitalSourceType": source_type, "softwareAgent": made_by}
                )
            builder.sign(signer, _mime(format), BytesIO(data), to)
    except c2pa.C2paError as error:
        raise ImageError(f"can't be signed: {' '.join(str(error).split())}") from error
    return to.getvalue()


def _mime(format: str) -> str:
    return f"image/{format.lower()}"
