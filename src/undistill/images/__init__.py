"""The one door for pixels: decode, encode, colour, metadata.

Inside undistill an image is RGB, 8 bits, sRGB, upright. What it was before, and what has to go back into the file that
is made from it, travels along in a `Picture`.
"""

from undistill.images.metadata import Metadata, left_out
from undistill.images.picture import EXTENSIONS, FORMATS, READ_ONLY, ImageError, NoImage, Picture, Pixels, TooLarge
from undistill.images.read import (
    Header,
    decode,
    decode_rgb,
    format_of,
    header_of,
    list_images,
    look_through,
    read_rgb,
    size_of,
    to_picture,
    to_rgb,
    upright,
)
from undistill.images.write import (
    QUALITY,
    Encoding,
    FormatName,
    asked_encoding,
    check_encoding,
    encode,
    png,
    to_image,
    to_tensor,
    write_grid,
)

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "QUALITY",
    "READ_ONLY",
    "Encoding",
    "FormatName",
    "Header",
    "ImageError",
    "Metadata",
    "NoImage",
    "Picture",
    "Pixels",
    "TooLarge",
    "asked_encoding",
    "check_encoding",
    "decode",
    "decode_rgb",
    "encode",
    "format_of",
    "header_of",
    "left_out",
    "list_images",
    "look_through",
    "png",
    "read_rgb",
    "size_of",
    "to_image",
    "to_picture",
    "to_rgb",
    "to_tensor",
    "upright",
    "write_grid",
]
