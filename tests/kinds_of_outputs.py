"""What models return around their output, as the libraries of the field do: name -> function of the output."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import torch


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor
    loss: torch.Tensor | None = None


class Named(NamedTuple):
    loss: torch.Tensor
    logits: torch.Tensor
    hidden: torch.Tensor


class Dictionary(OrderedDict):
    """As Hugging Face's outputs: a dictionary whose entries are attributes."""

    def __getattr__(self, name):
        return self[name]


TAKEN = {
    "dataclass": lambda z: Answer(z, z.exp()),
    "named tuple": lambda z: Named(z.mean(), z, z.exp()),
    "dictionary with attributes": lambda z: Dictionary(logits=z, hidden_states=(z, z)),
    "plain dictionary": lambda z: {"loss": z.mean(), "logits": z, "hidden": z.exp()},
    "dictionary of one": lambda z: {"out": z},
    "tuple of one": lambda z: (z,),
    "tuple with nothing": lambda z: (z, None),
    "loss and output": lambda z: (z.mean(), z),
    "list": lambda z: [z],
}
REFUSED = {
    "two tensors": lambda z: (z, z.exp()),
    "a recurrent state": lambda z: (z, (z, z)),
    "two entries": lambda z: {"out": z, "aux": z},
    "hidden states only": lambda z: Dictionary(last_hidden_state=z, pooler_output=z),
    "a number": lambda z: {"loss": z.mean()},
    "nothing": lambda z: None,
    "a list of two": lambda z: [z, z],
}
