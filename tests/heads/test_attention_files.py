from pathlib import Path

import numpy as np
import pytest

import headcount
from headcount.errors import RunError
from headcount.heads.attention_files import save_maps
from headcount.heads.attention_maps import maps_of_text

TEXT = "Ada: Good day.\nBen: I would like a pear."


def test_all_blocks_as_arrays_with_their_tokens(finished_run: Path, tmp_path: Path) -> None:
    run = headcount.load_run(finished_run)
    run.save_attention(TEXT, tmp_path / "maps.npz")
    maps = run.attention(TEXT)
    with np.load(tmp_path / "maps.npz", allow_pickle=False) as file:
        blocks = [name for name in file if "/" not in name]
        assert blocks == list(maps) == ["encoder.0", "decoder.0", "cross.0"]
        for block in blocks:
            assert file[block].dtype == np.float32 and np.array_equal(file[block], maps[block])
            assert file[block].shape[1:] == (
                len(file[f"{block}/queries"]),
                len(file[f"{block}/keys"]),
            )
        document = file["cross.0/keys"].tolist()
        assert "".join(document).startswith("Ada: Good day.\\nBen:")
        assert file["cross.0/next"].tolist()[:-1] == file["cross.0/queries"].tolist()[1:]
        assert "encoder.0/next" not in file


def test_a_file_that_cannot_be_written_is_one_line(finished_run: Path, tmp_path: Path) -> None:
    run = headcount.load_run(finished_run)
    maps = maps_of_text(run.module, TEXT)
    with pytest.raises(RunError, match=r"none/maps.npz: cannot be written: No such file"):
        save_maps(maps, run.module.token_name, tmp_path / "none" / "maps.npz")
    assert not list(tmp_path.glob("*.npz"))
