"""A process that is killed, for the tests: nothing of what runs catches it."""


class Killed(BaseException):
    """In place of what ends a process at once, as kill -9 would."""


def killed() -> None:
    """Die here."""
    raise Killed
