"""A recording as one file: packed beside its folder, and unpacked where it is replayed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from pytest_gpusim.artifacts import atomic_directory, atomic_file, safe_name, sha256_file
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.limits import ARCHIVE_FILES
from pytest_gpusim.texts import PACKED_SUFFIXES, open_bytes

SUFFIX = ".tar.xz"
_FIX = "pack it with 'gpusim record'"


def archive_of(place: Path) -> Path:
    """Where the archive of the recording at ``place`` lies: beside it."""
    return place.with_name(place.name + SUFFIX)


def pack_recording(place: Path) -> Path:
    """Write the recording at ``place`` as one archive beside it; the same folder, the same bytes.

    Raises:
        UsageError: There is an archive already, or it cannot be written.
    """
    archive = archive_of(place)
    if archive.exists():
        raise UsageError(f"{archive}: exists; name another --out")
    with (
        atomic_file(archive) as partial,
        # Level 1 packs these tables about as small as the slow ones, a hundred times faster.
        tarfile.open(partial, "w:xz", preset=1, format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(place.rglob("*")):
            _add(tar, path, Path(place.name) / path.relative_to(place))
    return archive


def find_recording(recordings: Path, case_name: str, unpacked: Path) -> Path | None:
    """The folder of a case's recording; None where there is neither a folder nor an archive.

    Args:
        recordings: Holds ``<case>/`` or ``<case>.tar.xz``; a folder goes first.
        case_name: The case.
        unpacked: Where archives are unpacked, each once for its content.

    Raises:
        InputError: The archive is broken, or does not hold the case.
    """
    case_name = safe_name(case_name)
    place = recordings / case_name
    if place.is_dir():
        return place
    archive = archive_of(place)
    if not archive.is_file():
        return None
    out = unpacked / f"{case_name}-{sha256_file(archive)[:12]}"
    if not out.is_dir():
        _unpack(archive, out)
    if not (out / case_name).is_dir():
        raise InputError(archive, "", f"holds no folder {case_name}", _FIX)
    return out / case_name


def _unpack(archive: Path, out: Path) -> None:
    try:
        with (
            atomic_directory(out) as partial,
            open_bytes(archive, fix=_FIX) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for number, member in enumerate(tar, start=1):
                ARCHIVE_FILES.check(archive, "", number)
                # By links a filter of Python was led outside, and holes have no packed size.
                if not (member.isreg() or member.isdir()) or member.issparse():
                    problem = f"{member.name!r} is neither a plain file nor a folder"
                    raise InputError(archive, "", problem, _FIX)
                # The filter lets nothing leave the directory or carry rights.
                tar.extract(member, partial, filter="data")
    except (tarfile.TarError, OSError, ValueError) as error:
        raise InputError(archive, "", f"cannot be unpacked: {error}", _FIX) from None
    except UsageError:
        if not out.is_dir():  # else another process has just unpacked it
            raise


def _add(tar: tarfile.TarFile, path: Path, name: Path) -> None:
    """Add a file, or a folder by itself, without owner and time; what is packed, unpacked."""
    if path.is_dir():
        entry = tarfile.TarInfo(str(name))
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
        return
    if path.suffix in PACKED_SUFFIXES:  # together they pack better than each by itself
        name = name.with_suffix("")
    with open_bytes(path) as stream:
        content = stream.read()
    entry = tarfile.TarInfo(str(name))
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))
