"""What a process that we start inherits of our environment: a list of what is passed, so that a secret is not.

Whoever calls modelcd may have keys to anything in their environment.  A user's code, a served model and a service get
what a program needs to run at all (paths, language, certificates, threads, devices); a project may name more (see
`modelcd.project.environment`).  A list of what to keep back would miss the next secret.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

# fmt: off
NAMES = frozenset((
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "NO_COLOR", "LANG",
    "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "CONDA_PREFIX",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "MPLBACKEND", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
    "LOKY_MAX_CPU_COUNT", "JOBLIB_TEMP_FOLDER",
))
# fmt: on
"""What is passed by name."""

BEGINNINGS = (
    "LC_",
    "PYTHON",
    "OMP_",
    "GOMP_",
    "KMP_",
    "OPENBLAS_",
    "MKL_",
    "BLIS_",
    "NUMEXPR_",
    "VECLIB_",
    "CUDA_",
    "NVIDIA_",
    "ROCR_",
    "HIP_",
)
"""What is passed by how its name begins: language, Python, threads, devices."""

PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})
"""Passed in lower and upper case, unless there is a user and a password in it."""

PRIVATE = 0o077
"""The umask of every process that we start: what it writes is for this user only."""


def passed(environment: Mapping[str, str], named: Collection[str] = ()) -> dict[str, str]:
    """Return what of *environment* others inherit, and what of it is *named*."""
    return {
        name: value
        for name, value in environment.items()
        if name in NAMES
        or name.startswith(BEGINNINGS)
        or (name.lower() in PROXIES and "@" not in value)
        or name in named
    }
