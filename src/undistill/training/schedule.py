"""What depends on the step: learning rates, as factors of the recipe's `lr`, and what a run does beside training."""

from dataclasses import dataclass

from undistill.training.recipe import Schedule


def linear_decay(progress: float, start: float = 0.5, end: float = 0.0) -> float:
    """1 until `start`, then falling linearly to `end` at the end of the run (0.5 and 0: Zhu et al. 2017).

    `progress` of the run is in [0, 1).
    """
    return min(1.0, end + (1 - end) * (1 - progress) / (1 - start))


def warmup(progress: float, share: float) -> float:
    """Rising linearly to 1 in the first `share` of the run: Adam's first steps would throw a network far off."""
    return min(1.0, (progress + 1e-3) / share) if share else 1.0


@dataclass(frozen=True)
class StepPlan:
    """Which steps of a run do more than train.

    Args:
        per_epoch: steps of an epoch.
        total: steps of the recipe.
        last: the step to stop at.
    """

    recipe: Schedule
    per_epoch: int
    total: int
    last: int

    @classmethod
    def of(cls, recipe: Schedule, images: int, max_steps: int | None) -> "StepPlan":
        """For an epoch of so many images."""
        per_epoch = -(-images // (recipe.batch * recipe.accumulate))
        total = recipe.steps or (recipe.epochs or 0) * per_epoch
        return cls(recipe, per_epoch, total, min(total, max_steps or total))

    def logs(self, step: int) -> bool:
        """A row of metrics.csv."""
        return step % self.recipe.log_every == 0 or step == self.last

    def validates(self, step: int) -> bool:
        """Every `validate_every` steps, or once an epoch, and at the recipe's end."""
        # Not at a `max_steps` in between: a validation there could make another head the best.
        return step % (self.recipe.validate_every or self.per_epoch) == 0 or step == self.total

    def samples(self, step: int) -> bool:
        """A grid of pictures."""
        return step % self.recipe.sample_every == 0 or step == self.last

    def saves(self, step: int) -> bool:
        """The whole state, to go on from."""
        return step % self.recipe.save_every == 0 or step == self.last

    def looks(self, step: int) -> bool:
        """Is anything to be made of the step's losses or weights?"""
        return self.logs(step) or self.validates(step) or self.samples(step) or self.saves(step)
