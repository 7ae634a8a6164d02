import errno

import pytest
import torch

from sae_lightning.whole_files import set_aside, whole_file, write_whole


def test_an_error_leaves_the_older_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "first")
    with pytest.raises(KeyError), whole_file(path) as part:
        part.write_text({}["half"] if part.write_text("half") else "")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, "second")
    assert path.read_text() == "second"


@pytest.mark.parametrize("writer", ["plain", "torch"])
def test_a_full_disk_is_named(tmp_path, writer):
    class Full:
        """A file on a disk that takes 100 bytes."""

        def __init__(self, file):
            self.file, self.taken = file, 0

        def write(self, data):
            self.taken += len(data)
            if self.taken > 100:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def flush(self):
            self.file.flush()

    path = tmp_path / "file"
    path.write_text("older")
    with (
        pytest.raises(
            ValueError, match="file was not written: the disk is full .*the older file of that name is as it was"
        ),
        whole_file(path) as part,
        part.open("wb") as file,
    ):
        Full(file).write(b"a" * 1000) if writer == "plain" else torch.save(torch.zeros(1000), Full(file))
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="was not written: (File exists|Not a directory)"):
        write_whole(tmp_path / "file" / "inside", "text")
    with pytest.raises(ValueError, match="was not written: File name too long"):
        write_whole(tmp_path / ("a" * 300), "text")


def test_results_with_other_settings_are_set_aside(tmp_path):
    results, latents = tmp_path / "stitch.json", tmp_path / "latents.safetensors"
    assert set_aside(results, {"n": 1}, ["latents.safetensors"]) == []
    results.write_text('{"settings": {"n": 1}}')
    latents.write_text("first")
    assert set_aside(results, {"n": 1}, ["latents.safetensors"]) == []
    kept = set_aside(results, {"n": 2}, ["latents.safetensors"])
    assert kept == [tmp_path / "stitch.1.json", tmp_path / "latents.1.safetensors"]
    assert not results.exists()
    for older in ("{}", "damaged"):
        results.write_text(older)
        (moved,) = set_aside(results, {"n": 3})
        assert moved.read_text() == older
    assert kept[0].read_text() == '{"settings": {"n": 1}}'
