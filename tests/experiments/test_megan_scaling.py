"""MEGAN's cost as images grow: the step on patches is one program for all sizes."""

import json

from jaxgan import cli
from jaxgan.experiments import megan_scaling

TINY = (
    "--num_scales=2 --patch_size=28 --core_size=20 --width=2 --num_blocks=1"
    " --patch_batch=2 --sizes=64,96 --generate_to=64 --whole_to=64"
).split()


def test_a_table_and_a_plot(tmp_path):
    argv = ["scaling", f"--output={tmp_path}", *TINY]
    sections = {"config": megan_scaling.megan.Config, "options": megan_scaling.Options}
    rows = megan_scaling.main(**cli.parse(argv, sections))
    assert rows["64"]["patches_mb"] == rows["96"]["patches_mb"] > 0
    assert rows["64"]["whole_mb"] > 0 and "whole_mb" not in rows["96"]
    assert rows["64"]["seconds"] > 0
    assert json.loads((tmp_path / "table.json").read_text()) == rows
    assert (tmp_path / "scaling.png").stat().st_size > 1000
