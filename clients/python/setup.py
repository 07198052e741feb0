"""Generates the messages from the repository's proto before the package is built."""
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).resolve().parent))  # not there in an isolated build
import generate  # noqa: E402


class Build(build_py):
    def run(self):
        generate.generate()
        super().run()


setup(cmdclass={"build_py": Build})
