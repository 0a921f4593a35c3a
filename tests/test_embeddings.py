"""Descriptors in files: both kinds give back what was written, and damage is named."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy

from backbone.embeddings import Embeddings, Origin, load_embeddings, save_embeddings

ORIGIN = Origin("folder:/a", "test", {"split": 3}, "0123", "reinforce", (3, 64, 32), (3, 16, 8), (2, 6, 4))


def make(count=3):
    return Embeddings(
        descriptors=np.arange(count * 4, dtype=np.float32).reshape(count, 4) / 3,
        person=np.arange(count) - 2,
        camera=np.arange(count) % 2,
        name=["", "junk", "Frau Müller"][:count],
        source=[f"folder/{number}" for number in range(count)],
        key=[f"{number:08x}" for number in range(count)],
        bins=np.arange(count * 2).reshape(count, 2),
        clip=np.arange(count),
        origin=ORIGIN,
    )


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_files_give_back_what_was_written(tmp_path, ending, is_mapped):
    path, written = tmp_path / f"some.{ending}", make()
    save_embeddings(path, written)
    read = load_embeddings(path, is_mapped=is_mapped)
    assert read.descriptors.flags.writeable != is_mapped
    for field in dataclasses.fields(Embeddings):
        was, found = getattr(written, field.name), getattr(read, field.name)
        if isinstance(was, np.ndarray):
            np.testing.assert_array_equal(found, was)
            assert found.dtype == was.dtype
        else:
            assert found == was
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_no_descriptors_can_be_mapped(tmp_path, ending):
    path = tmp_path / f"some.{ending}"
    save_embeddings(path, dataclasses.replace(make(), descriptors=np.zeros((3, 0), np.float32)))
    assert load_embeddings(path, is_mapped=True).descriptors.shape == (3, 0)


def test_programs_of_others_read_the_files(tmp_path):
    for ending in ("npz", "safetensors"):
        save_embeddings(tmp_path / f"some.{ending}", make())
    with np.load(tmp_path / "some.npz", allow_pickle=False) as file:
        assert file["name"].tolist() == ["", "junk", "Frau Müller"]
        np.testing.assert_array_equal(file["person"], [-2, -1, 0])
    np.testing.assert_array_equal(
        safetensors.numpy.load_file(tmp_path / "some.safetensors")["descriptors"], make().descriptors
    )


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text", "flipped", "number"])
def test_damage_is_named(tmp_path, ending, damage):
    path = tmp_path / f"some.{ending}"
    save_embeddings(path, make())
    content, third = path.read_bytes(), make().descriptors[0, 1].tobytes()
    if damage == "missing":
        path.unlink()
    else:
        changed = {
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "text": b"descriptors",
            # the lowest bit of a number
            "number": content.replace(third, bytes([third[0] ^ 1]) + third[1:], 1),
            "flipped": content[:40] + bytes(byte ^ 255 for byte in content[40:80]) + content[80:],
        }
        path.write_bytes(changed[damage])
    for is_mapped in (False, True):
        with pytest.raises(ValueError, match=f"some.{ending}"):
            load_embeddings(path, is_mapped=is_mapped)


def test_whatever_byte_is_wrong_the_file_is_named(tmp_path):
    path = tmp_path / "some.npz"
    save_embeddings(path, make())
    content, generator = path.read_bytes(), np.random.default_rng(0)
    errors = []
    for _ in range(300):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 3).tolist():
            damaged[place] = int(generator.integers(256))
        path.write_bytes(damaged)
        try:
            load_embeddings(path)
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) > 100
    assert all("some.npz" in error for error in errors)


def test_other_contents_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, descriptors=np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"other.npz holds no descriptors .*name"):
        load_embeddings(path)
    save_embeddings(path, dataclasses.replace(make(), name=[1, 2, 3]))
    assert load_embeddings(path).name == ["1", "2", "3"]
    path = tmp_path / "other.safetensors"
    save_embeddings(path, dataclasses.replace(make(), name=[1, 2, 3]))
    with pytest.raises(ValueError, match=r"other.safetensors holds no descriptors .*no texts"):
        load_embeddings(path)
    path = tmp_path / "other.npz"
    np.savez(path, descriptors=np.array([object()]))
    with pytest.raises(ValueError, match=r"other.npz holds no descriptors"):  # a pickle, which is not run
        load_embeddings(path)
    with pytest.raises(ValueError, match=r"ends in .npz or .safetensors"):
        load_embeddings(tmp_path / "some.txt")


def test_descriptors_are_checked():
    with pytest.raises(ValueError, match="the descriptor of folder/1 holds NaN or infinity"):
        dataclasses.replace(make(), descriptors=np.array([[0, 0], [0, np.nan], [0, 0]], np.float32))
    with pytest.raises(ValueError, match=r"ids \(N,\), got \(3, 4\), \(3, 2\)"):
        dataclasses.replace(make(), person=np.zeros(2, np.int64))


def test_a_damaged_name_of_the_checksum_is_damage(tmp_path):
    path = tmp_path / "some.safetensors"
    save_embeddings(path, make())
    content = path.read_bytes()
    assert content.count(b'"checksum"') == 1
    path.write_bytes(content.replace(b'"checksum"', b'"chfcksum"'))
    with pytest.raises(ValueError, match=r"some\.safetensors .*it has no text of the name 'chfcksum'"):
        load_embeddings(path)
