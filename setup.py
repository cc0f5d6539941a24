"""Build step beyond pyproject.toml: the folder weights/ goes into the wheel as stvsr_cli/shipped."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithWeights(build_py):
    """Copies the weights beside the code; an editable install finds them in the checkout."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        weights = Path(__file__).parent / "weights"
        if not self.editable_mode and weights.is_dir():
            shutil.copytree(weights, Path(self.build_lib) / "stvsr_cli" / "shipped", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithWeights})
