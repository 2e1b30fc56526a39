"""What every head takes and costs, as a Markdown table: python -m research.heads"""

from undistill.heads import Descriptor, EsaGenerator, GridHead, Head, ResnetGenerator, UNet, shipped_heads


def row(name: str, d: Descriptor) -> str:
    """A head's line of the table."""
    cells = (
        name,
        f"{d.parameters:,}",
        f"{d.gflop_512:.0f}" if d.gflop_512 >= 1 else f"{d.gflop_512:.1g}",
        f"{d.receptive_field}",
        f"{d.smallest}",
        f"{d.multiple}",
        "yes" if d.whole_image else "no",
        "yes" if d.bf16 else "no",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table of docs/heads.md."""
    heads: dict[str, Head] = {
        "`ResnetGenerator(upsampling='transposed')`": ResnetGenerator(upsampling="transposed"),
        "`ResnetGenerator()`": ResnetGenerator(),
        "`EsaGenerator()`": EsaGenerator(),
        "`UNet()`": UNet(),
        "`GridHead()`": GridHead(),
        **{f"`{name}`": Head.from_pretrained(name) for name in shipped_heads()},
    }
    print("| head | parameters | GFLOP at 512 px | sees, px | from, px | multiple of | whole image | bf16 safe |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, head in heads.items():
        print(row(name, head.eval().descriptor))


if __name__ == "__main__":
    main()
