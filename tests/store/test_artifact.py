"""An artifact is complete after its commit and not before; its manifest tells all that was said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tis_ray.errors import InputError
from tis_ray.store import Artifact, write_bytes
from tis_ray.version import __version__

INPUTS = {"pool": "abc", "width": 512}


def test_complete_only_after_commit(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path, "features", INPUTS)
    assert not artifact.complete
    write_bytes(artifact / "shard-0.npy", b"x")
    assert not artifact.complete
    artifact.commit(rows=1)
    assert artifact.complete
    assert Artifact(tmp_path, "features", INPUTS).complete


def test_the_marker_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    artifact = Artifact(tmp_path, "features", INPUTS)
    monkeypatch.setattr("tis_ray.store.artifact.write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        artifact.commit()
    assert (artifact / "manifest.json").exists()
    assert not artifact.complete


def test_manifest_round_trip(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path, "features", INPUTS)
    written = artifact.commit(
        rows=7, quarantined=2, seconds=1.5, device="cuda", peak_mb=12.5, details={"shards": [1, 2]}
    )
    found = Artifact(tmp_path, "features", INPUTS).manifest()
    assert found == written
    assert (found.stage, found.inputs, found.code_version) == ("features", INPUTS, __version__)


def test_a_fact_without_a_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Artifact(tmp_path, "features", INPUTS).commit(colour="red")


def test_stage_and_inputs_name_the_folder_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = Artifact(tmp_path, "features", INPUTS)
    assert artifact.path.name == f"features-{artifact.fingerprint}"
    monkeypatch.chdir(tmp_path)
    again = Artifact(".", "features", dict(reversed(INPUTS.items())))
    assert again.path == artifact.path
    assert Artifact(tmp_path, "scores", INPUTS).fingerprint != artifact.fingerprint
    other = Artifact(tmp_path, "features", {**INPUTS, "width": 256})
    assert other.fingerprint != artifact.fingerprint


def test_another_version_is_another_artifact(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path, "features", INPUTS, version=1)
    raised = Artifact(tmp_path, "features", INPUTS, version=2)
    assert raised.path != artifact.path
    raised.commit()
    assert raised.manifest().version == 2
    assert not artifact.complete


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no such file"),
        ('{"stage": "featu', "cannot be read (Unterminated string"),
        (
            '{"stage": "features", "inputs": {}, "colour": 1}',
            "unexpected keyword argument 'colour'",
        ),
        ('{"stage": "features"}', "missing 1 required positional argument: 'inputs'"),
        ("[1]", "not a manifest"),
    ],
)
def test_a_manifest_that_is_not_ours_is_one_line(tmp_path: Path, content: str, why: str) -> None:
    artifact = Artifact(tmp_path, "features", INPUTS)
    artifact.commit()
    (artifact / "manifest.json").unlink()
    if content is not None:
        (artifact / "manifest.json").write_text(content)
    with pytest.raises(InputError) as error:
        artifact.manifest()
    message = str(error.value)
    assert message.startswith(f"{artifact / 'manifest.json'}: ")
    assert why in message
    assert f"remove {artifact.path}" in message
    assert "\n" not in message
