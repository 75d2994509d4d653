"""An export onto the hub, by huggingface_hub: only ever because it was asked for."""

from __future__ import annotations

import shlex
from pathlib import Path

from tuneoff.errors import ExportError, first_line


def check_push(name: str) -> None:
    """Raise ExportError unless `name` is `user/name` as the hub takes it, and there is a token to upload with."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        if name.count("/") != 1:
            raise HFValidationError(f"got {name!r}")
        validate_repo_id(name)
    except HFValidationError as error:
        raise ExportError(f"--push takes user/name: {first_line(error)}") from None
    if get_token() is None:
        raise ExportError("--push needs a token of the hub: `hf auth login`, or HF_TOKEN")


def push(folder: Path, name: str, message: str) -> str:
    """Upload `folder` to the model repository `name` of the hub, made private where it is new. Its address.

    Raises ExportError where it cannot; `folder` stays as it is.
    """
    from huggingface_hub import HfApi

    again = f"{folder} is whole; to try again: hf upload --private {name} {shlex.quote(str(folder))}"
    api = HfApi()
    try:
        url = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    except Exception as error:  # offline, refused, rights: the hub raises its own tree, httpx's and OSErrors
        first = first_line(error)
        raise ExportError(f"not pushed: {first} {again}") from error
    return str(url)
