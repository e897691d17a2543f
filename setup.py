"""Three folders with plain names, installed under names of our own: nothing generic lands in site-packages."""

from setuptools import find_packages, setup

FOLDERS = {"harness": "harness", "harness_plugins": "plugins", "harness_conf": "conf"}

setup(
    package_dir=FOLDERS,
    packages=[
        name
        for package, folder in FOLDERS.items()
        for name in [package, *(f"{package}.{inside}" for inside in find_packages(folder))]
    ],
)
