"""The model card of a head, in the Hugging Face form."""

from typing import Any

from undistill.training.recipe import Recipe, dump_recipe

_CARD = """---
library_name: undistill
license: apache-2.0
pipeline_tag: image-to-image
tags: [undistill, portraits]
---

# A head for undistill

Makes the images of a distilled text-to-image model look like its teacher's (after arXiv 2505.02255).

    undistill enhance IMAGES -o OUT --head THIS_FOLDER

Trained {mode} on {student} student and {teacher} teacher images for {trained_steps} steps; the weights are the moving
average at step {step}. Not measured beyond the losses of the run: look at its pictures, and evaluate it, before you
rely on it.

## Recipe

```yaml
{recipe}```
"""


def card(recipe: Recipe, data: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Markdown for README.md: what it is, what it was trained on, how."""
    return _CARD.format(
        mode=recipe.mode,
        student=data["student"]["images"],
        teacher=data["teacher"]["images"],
        recipe=dump_recipe(recipe),
        **metrics,
    )
