"""The library's packages have to be its own, not folders of the same name that Python found first."""

from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("a3d_env", "agents", "backbone", "scripts")


def check_packages() -> None:
    """Say at once if another folder or file is imported in the place of one of this library's packages.

    Raises:
        ImportError: the message names both folders, and what to do.
    """
    home = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        spec = find_spec(name)
        places = list(spec.submodule_search_locations or [str(spec.origin)]) if spec else []
        if places and home / name not in [Path(place).resolve() for place in places]:
            raise ImportError(
                f"Python finds {places[0]} in the place of the package {name} of this library ({home}): "
                "start it in another folder, or rename yours"
            )
