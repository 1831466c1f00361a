"""Credentials that are like no other text, and the search for them in all that was written."""

import base64
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, quote_plus

NAMED = {
    "AWS_ACCESS_KEY_ID": "AKIAQ7PLANTEDZX94KW2",
    "AWS_SECRET_ACCESS_KEY": "pL4nt3d/aws+secret=Vb91TqYwZ0mRk7",
    "AWS_SESSION_TOKEN": "pL4nt3d/session+token==Jm2Xc8Qe",
    "MLFLOW_TRACKING_PASSWORD": "pL4nt3d-mlflow-password-W6sUa5",
    "PGPASSWORD": "pL4nt3d-pg-password-Bz3kLo9",
    "HF_TOKEN": "hf_pL4nt3dHubTokenNn7Xx2Ii4",
    "RAY_AUTH_TOKEN": "7c1e0f4ab2d94e6f8a5b3c9d7e2f1a60c4b8d6e0f3a2915c7d8e6b4f0a1c2d3e",
}
"""By environment variable."""
IN_URIS = {
    "MLFLOW_TRACKING_URI": "pL4nt3d-uri-password-Gg5Hd1",
    "MONO3D_SEARCHES": "pL4nt3d-database-Tt8!Ry6",
    "AWS_ENDPOINT_URL": "pL4nt3d-endpoint-Ff4Pq2",
}
"""By the environment variable whose URI holds it as its password."""
SECRETS = (*NAMED.values(), *IN_URIS.values())


def forms_of(secret: str) -> set[bytes]:
    """As it is, as URLs write it, and what base64 makes of it wherever it stands in a text."""
    forms = {secret, quote(secret, safe=""), quote_plus(secret), secret.replace("/", "\\/")}
    shifted = {base64.b64encode(b"\0" * shift + secret.encode()) for shift in range(3)}
    # The first and the last characters mix with what stands beside the secret.
    return {form.encode() for form in forms} | {form[4:-4] for form in shifted}


def leaks(content: bytes, secrets: Iterable[str] = SECRETS) -> list[str]:
    """Secrets that are in a content, in whatever form."""
    return [s for s in secrets if any(form in content for form in forms_of(s))]


def leaking_files(folder: Path, secrets: Iterable[str] = SECRETS) -> dict[str, list[str]]:
    """Files below a folder that hold secrets, and which."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    assert files, f"nothing was written to {folder}"
    found = {str(path): leaks(path.read_bytes(), secrets) for path in files}
    return {name: secrets for name, secrets in found.items() if secrets}
