from pathlib import Path

import pytest
from PIL import Image
from research.tiny.curves import main, read_curves

from undistill.base.errors import UsageError


def test_curves_of_the_stages_that_there_are(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra report")
    with pytest.raises(UsageError, match="holds no run of a stage of tiny"):
        main(tmp_path, tmp_path / "curves.png")
    (tmp_path / "flow").mkdir()
    table = tmp_path / "flow" / "metrics.csv"
    table.write_text("step,epoch,lr,loss_velocity,val_loss\n50,1,0.1,1.5,\n100,2,0.1,1.25,1.4\n")
    assert read_curves(table) == {"loss_velocity": [(50, 1.5), (100, 1.25)], "val_loss": [(100, 1.4)]}
    main(tmp_path, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size == (400, 300)
