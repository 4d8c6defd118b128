"""Files of the Hugging Face hub: from the cache, else downloaded, else refused within seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import (
    constants,
    errors,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
)

REACH_SECONDS = 5.0
_NETWORK_ERRORS = (errors.HTTPError, OSError)  # type: ignore[attr-defined]


class UnreachableFileError(Exception):
    """The file is not on this machine and cannot be fetched; the text is the reason.

    Callers know what the file is for, and tell the user so.
    """


def fetch_hub_file(repository: str, files: Sequence[str], revision: str | None = None) -> Path:
    """Return the first of `files` that the repository has. Raises `UnreachableFileError`."""
    for file in files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision, local_files_only=True))
        except errors.EntryNotFoundError:
            continue
    if constants.HF_HUB_OFFLINE:
        raise UnreachableFileError("HF_HUB_OFFLINE is set")
    for file in files:
        try:
            # Asked once before, because the hub's client retries for a minute.
            url = hf_hub_url(repository, file, revision=revision)
            get_hf_file_metadata(url, timeout=REACH_SECONDS)
            return Path(hf_hub_download(repository, file, revision=revision))
        except errors.EntryNotFoundError:
            continue
        except _NETWORK_ERRORS as error:
            raise UnreachableFileError(str(error).strip().split("\n")[0]) from error
    raise UnreachableFileError(f"it has neither {' nor '.join(files)}")
