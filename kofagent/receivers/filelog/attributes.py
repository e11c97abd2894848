"""What upstream says of a file in its entries' attributes (`log.file.*`)."""

from __future__ import annotations

import os
import stat

from kofagent.receivers.filelog.config import Config


def file_attributes(config: Config, path: str, status: os.stat_result, *, strict: bool = True) -> dict[str, str]:
    """The attributes these options ask for; OSError where a link cannot be resolved, unless not `strict` (the path may be gone)."""
    out: dict[str, str] = {}
    if config.include_file_name:
        out["log.file.name"] = os.path.basename(path)
    if config.include_file_path:
        out["log.file.path"] = path
    if config.include_file_owner_name:
        out["log.file.owner.name"] = _user(status.st_uid)
    if config.include_file_owner_group_name:
        out["log.file.owner.group.name"] = _group(status.st_gid)
    if config.include_file_permissions:
        out["log.file.permissions"] = f"{stat.S_IMODE(status.st_mode) & 0o777:03o}"
    if config.include_file_name_resolved or config.include_file_path_resolved:
        resolved = os.path.realpath(path, strict=strict)
        if config.include_file_name_resolved:
            out["log.file.name_resolved"] = os.path.basename(resolved)
        if config.include_file_path_resolved:
            out["log.file.path_resolved"] = resolved
    return out


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
