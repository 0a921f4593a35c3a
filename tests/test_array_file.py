"""Arrays in files: as they were written, or None; whatever is wrong with the file, and whoever else is at it."""

import numpy as np
import pytest

from backbone.data.array_file import is_intact, read_array, write_array


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "folder" / "some.npy"
    write_array(path, np.arange(24, dtype=np.float16).reshape(2, 3, 4))
    return path


def test_it_is_memory_mapped_and_numpy_reads_it_too(written):
    array = read_array(written)
    assert isinstance(array, np.memmap)
    np.testing.assert_array_equal(array, np.load(written))
    assert array.dtype == np.float16
    assert is_intact(written)
    assert [path.name for path in written.parent.iterdir()] == ["some.npy"]


def test_any_order_in_memory_comes_back_alike(tmp_path):
    array = np.asfortranarray(np.arange(6).reshape(2, 3))
    write_array(tmp_path / "some.npy", array)
    np.testing.assert_array_equal(read_array(tmp_path / "some.npy"), array)


@pytest.mark.slow
def test_every_flipped_bit_is_found(written):
    content = written.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            written.write_bytes(damaged)
            array = read_array(written)
            # of the header some bits mean nothing: a space between two words
            assert not is_intact(written) or np.array_equal(array, np.arange(24).reshape(2, 3, 4))


def test_other_files_are_no_arrays(written):
    content = written.read_bytes()
    np.savez(written.with_name("other.npz"), np.zeros(3))
    other = written.with_name("other.npz").read_bytes()
    version = content[:6] + b"\x09" + content[7:]  # of the format
    for wrong in (b"", content[:5], content[:-1], content + b"x", other, version, b"no array at all" * 20):
        written.write_bytes(wrong)
        assert read_array(written) is None
        assert not is_intact(written)
    written.unlink()
    assert read_array(written) is None
    assert not is_intact(written)
