"""What data sets are read from, as digests: so that rows can say on which data they were measured."""

import hashlib
from collections.abc import Iterable


def files_digest(name: str) -> str | None:
    """Sixteen digits of SHA-256 of what a data set is read from; None for data that are drawn, not read.

    Of MNIST and CIFAR: of the hashes that every reading checks; of digits: of the arrays that scikit-learn carries.
    """
    from regimes.data import cifar, files, images

    known = {"mnist": files.MNIST, "cifar10": cifar.CIFAR10.files, "cifar100": cifar.CIFAR100.files}
    if name in known:
        return _digest(file.sha256.encode() for file in known[name])
    if name == "digits":
        held = images.digits()
        return _digest(array.numpy().tobytes() for array in (held.x_train, held.labels_train))
    return None


def _digest(parts: Iterable[bytes]) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(part)
    return made.hexdigest()[:16]
