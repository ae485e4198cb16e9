"""Model files on the Hugging Face hub: hf://user/name wherever a run or a model file is named; imports no torch."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from sadcl_core.errors import DataError, MachineError, UsageError

MODEL = "sadcl.safetensors"  # in a repository
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
ADDRESS = re.compile(r"hf:/{1,2}(.*)")  # a path makes one stroke of two


def repository_of(place: object) -> str:
    """Return user/name of an address on the hub, empty for any other place.

    Example:
        >>> repository_of(Path("hf://anna/pets")), repository_of("runs/coco")
        ('anna/pets', '')
    """
    match = ADDRESS.fullmatch(str(place))
    return match[1].rstrip("/") if match else ""


def check_repository(name: str) -> str:
    """Return USER/NAME of a repository, given as that or as hf://USER/NAME.

    Raises:
        UsageError: it is not the name of a repository.
    """
    name = repository_of(name) or name
    if not NAME.fullmatch(name) or "--" in name or ".." in name:
        raise UsageError(f"{name!r} cannot name a repository of the hub. Write USER/NAME, such as anna/pets.")
    return name


def quiet_hub() -> None:
    """Let the hub's library keep its retries to itself."""
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)


def fetch_model(repository: str) -> Path:
    """Return the model file of a repository, from the cache of the hub or fetched into it.

    Raises:
        DataError: there is no such repository, or no model of this program in it.
        MachineError: it is not on this machine, and the hub cannot be reached.
        UsageError: it is no name of a repository.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError, RepositoryNotFoundError

    check_repository(repository)
    quiet_hub()
    try:
        return Path(hf_hub_download(repository, MODEL, endpoint=constants.ENDPOINT))
    except RepositoryNotFoundError:
        raise DataError(f"hf://{repository} is not there, or it is private. Check the name, or log in: hf auth login.") from None
    except RemoteEntryNotFoundError:
        raise DataError(f"hf://{repository} holds no {MODEL}. Name a repository that sadcl push filled.") from None
    except (LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise MachineError(
            f"hf://{repository} is not on this machine, and the hub cannot be reached. Fetch "
            f"{constants.ENDPOINT}/{repository}/resolve/main/{MODEL} elsewhere, and name the file with -w."
        ) from None
