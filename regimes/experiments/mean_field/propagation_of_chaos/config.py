"""Settings of the propagation of chaos: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from regimes.lab.config import Settings

SMOOTH, ROUGH, STRATIFIED, ATOMS = "smooth target", "rough target", "stratified start", "two atoms"
PLANE, SPACE = "2-d", "3-d"
ON_THE_CIRCLE = (SMOOTH, ROUGH, STRATIFIED)  # these start from the uniform density, and the equation is solved for them
PLANNED = (SMOOTH, STRATIFIED, PLANE, SPACE)  # optimal transport is solved for these


class Config(Settings):
    """Problems, numbers of particles, times and tolerances; configs/propagation_of_chaos.yaml is the real size."""

    problem: tuple[Literal["smooth target", "rough target", "stratified start", "two atoms", "2-d", "3-d"], ...] = (
        Field(
            (SMOOTH, ROUGH, STRATIFIED, ATOMS, PLANE, SPACE),
            min_length=1,
            description="on the circle: targets learned fast or slowly, the first from a stratified start too, "
            "and a start on two atoms whose loss does not decay; on the torus in two and three dimensions",
        )
    )
    width: tuple[Annotated[int, Field(ge=3)], ...] = Field(
        (9, 33), min_length=1, description="numbers m of particles, odd so that two atoms never share them evenly"
    )
    seeds: int = Field(4, ge=1, description="repetitions: particles drawn afresh")
    modes: int = Field(4, ge=2, description="frequencies of the nets on the circle")
    horizon: float = Field(10.0, gt=1, description="last time of the problems on the circle with a uniform start")
    moments: int = Field(12, ge=4, description="times at which the distances are measured, evenly in log t")
    cells: tuple[Annotated[int, Field(ge=8)], ...] = Field(
        (32, 64), min_length=1, description="cells of the finite volumes; distances are to the last, the finest"
    )
    planned: int = Field(2, ge=1, description="seeds whose optimal transport is solved, beside as many others")
    largest_plan: int = Field(33, ge=3, description="largest number m of particles whose transport is solved")
    checked: int = Field(
        2, ge=1, description="seeds whose flow is repeated at ten times the tolerance, to measure its error"
    )
    shown: int = Field(2, ge=0, description="seeds whose course over time is kept for the figure")
    tolerance: float = Field(1e-6, gt=0, description="relative and absolute tolerance of the flows")

    @model_validator(mode="after")
    def _atoms_are_shared_unevenly(self) -> "Config":
        even = [width for width in self.width if width % 2 == 0]
        if ATOMS in self.problem and even:
            raise ValueError(
                "two atoms need odd numbers of particles: an even number may share them evenly, at distance "
                f"0; got {even[0]}. Pass {even[0] + 1}, or leave {ATOMS!r} out of problem."
            )
        return self
