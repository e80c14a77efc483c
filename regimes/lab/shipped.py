"""Files that come with regimes: configurations and results, of a clone or inside an installed package."""

from pathlib import Path

FOLDER = "configs"


def shipped_folder(name: str = FOLDER) -> Path:
    """Where the configurations lie, or the "results"."""
    package = Path(__file__).resolve().parents[1]
    return package / name if (package / name).is_dir() else package.parent / name


def shipped(name: str) -> list[str]:
    """The files for a statement, as --config takes them: configs/NAME.yaml first, then configs/X/NAME.yaml.

    Those in configs/train are of `train`, whatever their names.
    """
    folder = shipped_folder()
    nested = [file for file in sorted(folder.glob(f"*/{name}.yaml")) if file.parent.name != "train"]
    files = [*folder.glob(f"{name}.yaml"), *nested]
    return [f"{FOLDER}/{file.relative_to(folder).as_posix()}" for file in files]


def found(file: Path | str) -> Path:
    """The file itself; where it is not there and begins with configs/, the one that comes with regimes."""
    file = Path(file)
    if file.exists() or file.is_absolute() or file.parts[:1] != (FOLDER,):
        return file
    ours = shipped_folder().joinpath(*file.parts[1:])
    return ours if ours.is_file() else file


def all_shipped() -> list[str]:
    """All of them, for a reader who has mistyped one."""
    folder = shipped_folder()
    return [f"{FOLDER}/{file.relative_to(folder).as_posix()}" for file in sorted(folder.rglob("*.yaml"))]
