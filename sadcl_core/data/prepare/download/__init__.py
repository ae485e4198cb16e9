"""Fetch the public data sets and unpack them where the readers look.

    DIR/.downloads/NAME.part     what there is of an archive so far; NAME.part.json says of which file on the server
    DIR/.downloads/NAME          a whole archive, fetched or put there by hand, until it has been unpacked
    DIR/.downloads/unpacking/    what it holds, until that is moved into place
    DIR/.downloaded.json         which archives have been unpacked, and which were being moved into place

Whatever interrupts this, the same call goes on from there. Nothing that lies in DIR is written over.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from sadcl_core.data.prepare.download.archives import archives_of, downloadable
from sadcl_core.data.prepare.download.fetching import require_space, whole_archive
from sadcl_core.data.prepare.download.place import OPTION, Place, is_there
from sadcl_core.data.prepare.download.unpacking import unpack
from sadcl_core.runtime.files import explained
from sadcl_core.runtime.progress import StagedProgress

__all__ = ["download", "downloadable"]


def download(name: str, folder: Path, *, progress: StagedProgress | None = None) -> None:
    """Bring a data set into `folder`, in the layout its reader expects; what is there already is left as it is.

    Args:
        name: one of `downloadable()`.
        folder: where the data set is to lie; made when it is not there.
        progress: called with what is being done to which file, the bytes done and the bytes in total (0: not known).

    Raises:
        UsageError: the data set cannot be downloaded, or the folder cannot be written to.
        DataError: an archive is damaged or not what it should be, or a file of another content is in its way.
        MachineError: no network, the server does not have a file, the connection broke off, or too little free space.
    """
    archives = archives_of(name)
    with explained(folder, OPTION):
        missing = tuple(archive for archive in archives if not is_there(folder, archive))
        if not missing:
            return
        place = Place(folder, missing, progress or (lambda what, done, total: None))
        shutil.rmtree(place.unpacking, ignore_errors=True)  # of a call that was interrupted
        require_space(place)
        place.downloads.mkdir(parents=True, exist_ok=True)
        for archive in missing:
            unpack(whole_archive(archive, place), place)
        with suppress(OSError):  # other files of the user's
            place.downloads.rmdir()
