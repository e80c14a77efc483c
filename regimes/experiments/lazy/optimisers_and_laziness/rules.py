"""The optimisers as data, and their step in the magnified displacement v = α(w − w_0).

Let G(v) = α m ∇F_α(w_0 + v/α), which is O(1) at every α. A step of rate ρ along the gradient m ∇F_α = G/α moves w by
−ρ G/α and v by −ρ G: no α is left. Adam moves w by −ρ m̂/(√v̂ + ε) with the averages of G/α, so
    v by −αρ M̂/(√V̂ + αε), M̂ and V̂ the averages of G and G².
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

DECAY = (0.9, 0.999)  # Adam's usual averages


class Rule(NamedTuple):
    """An optimiser: its rate in w is rate·α^−power, and Adam's ε, if adaptive, is epsilon·α^−epsilon_power."""

    rate: float
    power: float = 0.0
    momentum: float = 0.0
    adaptive: bool = False
    epsilon: float = 1e-8
    epsilon_power: float = 0.0
    batches: bool = False


RULES: dict[str, Rule] = {
    "gradient descent": Rule(0.5),
    "SGD": Rule(0.5, batches=True),
    "momentum": Rule(0.1, momentum=0.9),
    "Adam, rate 1/α": Rule(0.05, power=1.0, adaptive=True, epsilon_power=1.0),
    "Adam, large ε": Rule(0.5, adaptive=True, epsilon=1.0),
    "Adam, rate 1/√α": Rule(0.5, power=0.5, adaptive=True, epsilon_power=1.0),
    "Adam, fixed rate": Rule(0.05, adaptive=True),
    "Adam, tuned rate": Rule(1.0, adaptive=True, epsilon_power=1.0),  # times each of the rates tried
}


class Descent:
    """The steps of one rule for many runs, in v; net and tangent model have one each."""

    def __init__(self, rule: Rule, alpha: Float[Tensor, "runs 1"], rates: Float[Tensor, "runs 1"]) -> None:
        """rates: in w, one a run."""
        self.rule, self.alpha, self.rates = rule, alpha, rates
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0
        self.count = 0

    def step(self, gradient: Float[Tensor, "runs p"]) -> Float[Tensor, "runs p"]:
        """What the next step adds to v, from G there."""
        self.count += 1
        if not self.rule.adaptive:
            self.first = self.rule.momentum * self.first + gradient
            return -self.rates * self.first
        short, long = DECAY
        self.first = short * self.first + (1 - short) * gradient
        self.second = long * self.second + (1 - long) * gradient.square()
        mean, square = self.first / (1 - short**self.count), self.second / (1 - long**self.count)
        epsilon = self.rule.epsilon * self.alpha ** (1 - self.rule.epsilon_power)
        return -self.alpha * self.rates * mean / (square.sqrt() + epsilon)
