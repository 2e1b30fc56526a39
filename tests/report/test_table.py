import subprocess
import sys
from dataclasses import asdict
from pkgutil import iter_modules

import undistill.report
from undistill.metrics.baselines import Filter
from undistill.report.table import UNTOUCHED


def test_the_strengths_that_change_nothing_are_the_filters_own() -> None:
    assert asdict(Filter()) == UNTOUCHED


def test_pages_are_drawn_without_torch() -> None:
    modules = ", ".join(f"undistill.report.{module.name}" for module in iter_modules(undistill.report.__path__))
    script = f"import sys, {modules}; sys.exit(' '.join({{'torch', 'transformers', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
