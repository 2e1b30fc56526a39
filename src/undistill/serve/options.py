"""What a request may ask for, in its query or as fields of its form, by the names of `undistill enhance`'s options."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from undistill.base.errors import UsageError
from undistill.base.settings import Part, Strict, explain_all
from undistill.enhance.change import Change
from undistill.enhance.faces import FEATHER, NoFace, Where
from undistill.enhance.provenance import Label, check_asked
from undistill.images import Encoding, FormatName, asked_encoding
from undistill.serve.problems import Problem

Options = TypeVar("Options", bound=Strict)


class HeadOptions(Strict):
    """Of POST /v1/compare with an image."""

    head: Annotated[str | None, Field(description="One of GET /v1/heads; the first of them unless told.")] = None
    strength: Annotated[Part, Field(description="0: unchanged. 1: the head's image.", examples=[1.0])] = 1.0


class EnhanceOptions(HeadOptions):
    """Of POST /v1/enhance."""

    where: Annotated[Where, Field(description="face: the faces alone, softly.")] = "all"
    feather: Annotated[Part, Field(description="How far beyond a face its mask may end, in heights of it.")] = FEATHER
    no_face: Annotated[NoFace, Field(description="With where=face, what becomes of an image without one.")] = "whole"
    keep_identity: Annotated[Part | None, Field(description="Lower the strength till faces stay so near: 0.97.")] = None
    format: Annotated[
        FormatName, Field(description="Of the answer; same: that of the image sent (BMP and GIF become PNG).")
    ] = "same"
    quality: Annotated[int | None, Field(ge=1, le=100, description="Of JPEG, WebP and AVIF.")] = None
    lossless: Annotated[bool, Field(description="WebP without loss.")] = False
    colour: Annotated[bool, Field(description="A greyscale picture becomes RGB, with the head's tint.")] = False

    generated: Annotated[bool, Field(description="It was generated, even if its metadata don't say so.")] = False
    provenance: Annotated[bool, Field(description="Say in the image how it was made.")] = True

    def change(self) -> Change:
        """What is done to pixels."""
        return Change(self.strength, self.where, self.feather, self.no_face, self.keep_identity)

    def encoding(self) -> Encoding:
        """How the answer is written.

        Raises:
            Problem: options that don't go together.
        """
        try:
            return asked_encoding(self.format, self.quality, self.lossless, self.colour)
        except UsageError as error:
            raise Problem("invalid", str(error)) from error

    def label(self, head: str, weights: str) -> Label | None:
        """What the answer says of how it was made.

        Raises:
            Problem: options that don't go together.
        """
        try:
            check_asked(self.generated, self.provenance)
        except UsageError as error:
            raise Problem("invalid", str(error)) from error
        return Label(head, weights, self.generated) if self.provenance else None


def merged(query: Options, fields: Mapping[str, str]) -> Options:
    """The query's options, and those of the form, which count where both say something.

    Raises:
        Problem: a field that is no option, or has no value that it takes.
    """
    if not fields:
        return query
    try:
        return type(query).model_validate({**query.model_dump(exclude_unset=True), **fields})
    except ValidationError as error:
        raise Problem("invalid", explain_all(error, type(query), "the form")) from error
