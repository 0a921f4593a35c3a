"""A check that Python imports this library's packages, not other folders of the same names."""

from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("a3d_env", "agents", "backbone", "scripts")


def check_packages() -> None:
    """Check that none of this library's packages is hidden by another folder or file of the same name.

    Raises:
        ImportError: one is hidden; the message names both folders, and says what to do.
    """
    home = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        spec = find_spec(name)
        places = list(spec.submodule_search_locations or [str(spec.origin)]) if spec else []
        if places and home / name not in [Path(place).resolve() for place in places]:
            raise ImportError(
                f"Python finds {places[0]} in the place of the package {name} of this library ({home}): "
                "start Python in another folder, or rename that one"
            )
