"""Metadata stands in pyproject.toml; here is only what it cannot say about the twistd plugin."""

from setuptools import find_packages, setup

setup(
    # Keeps an editable install on a plain .pth, so that twistd finds twisted/plugins in the checkout.
    package_dir={"": "."},
    # twisted/plugins has no __init__.py and must not get one: it is merged into Twisted's own.
    packages=[*find_packages(include=["twisted_kv", "twisted_kv.*"]), "twisted.plugins"],
    package_data={"twisted_kv": ["py.typed"]},
)
