"""Channels last, by the name that scripts know: see `regimes.models.layout`."""

from regimes.models.layout import channels_last

__all__ = ["channels_last"]
