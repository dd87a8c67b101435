"""What a distribution requires, and which of it is installed: always, and for each of its extras."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version

from packaging.requirements import Requirement

BUNDLES = ("all", "dev", "docs")


@dataclass(frozen=True, slots=True)
class Package:
    """A required package. found: the installed version, None where there is none. enough: whether that version is one that is asked for."""

    name: str
    wanted: str
    found: str | None
    enough: bool

    @property
    def lack(self) -> str:
        """What is wrong with it, for a sentence: "torch-geometric", "scipy>=1.11 (found 1.9.0)"."""
        return self.name if self.found is None else f"{self.name}{self.wanted} (found {self.found})"


@dataclass(frozen=True, slots=True)
class Extra:
    """A named set of optional packages: `pip install 'anyview[graphs]'` installs those of the extra "graphs"."""

    distribution: str
    name: str
    packages: tuple[Package, ...]

    @property
    def install(self) -> str:
        """What pip takes: "anyview[graphs]"."""
        return f"{self.distribution}[{self.name}]"

    @property
    def lacks(self) -> list[str]:
        """The packages that are missing or too old, as phrases."""
        return [package.lack for package in self.packages if not package.enough]


def requirements(name: str = "anyview") -> list[Package]:
    """The packages that a distribution always needs."""
    return [_installed(r) for r in _requirements(name) if r.marker is None or r.marker.evaluate({"extra": ""})]


def extras(name: str = "anyview") -> list[Extra]:
    """A distribution's extras, without the bundles of others and of developers' tools (BUNDLES)."""
    names = [extra for extra in distribution(name).metadata.get_all("Provides-Extra") or [] if extra not in BUNDLES]
    return [Extra(name, extra, tuple(_installed(r) for r in _requirements(name) if _belongs(r, extra))) for extra in names]


def _belongs(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _requirements(name: str) -> list[Requirement]:
    return [Requirement(text) for text in distribution(name).requires or []]


def _installed(requirement: Requirement) -> Package:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Package(requirement.name, str(requirement.specifier), None, False)
    return Package(requirement.name, str(requirement.specifier), found, requirement.specifier.contains(found, prereleases=True))
