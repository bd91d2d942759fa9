"""What pyproject.toml cannot say: the recipes are shipped inside the package, for ``reprkit run``."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["reprkit", "reprkit.*"]), "reprkit._recipes"],
    package_dir={"reprkit._recipes": "recipes"},
)
