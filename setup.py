"""What pyproject.toml cannot say: a wheel takes configurations and kept verdicts along, inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithData(build_py):
    """Copies `configs/` and the results into the package; an editable installation reads those of the clone."""

    def run(self) -> None:
        """Build as ever, then copy."""
        super().run()
        if self.editable_mode:
            return
        for file in (*Path("configs").rglob("*.yaml"), *Path("results").glob("*/result.json")):
            goal = Path(self.build_lib, "regimes", file)
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, goal)


setup(cmdclass={"build_py": WithData})
