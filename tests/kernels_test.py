"""Tests under other kernels: what cannot run is skipped, and said."""

import subprocess
import types

import kernels


def test_what_the_processor_cannot_is_skipped_with_its_reason(monkeypatch, capsys):
    monkeypatch.setattr(kernels, "flags_of_processor", lambda: {"pni", "avx2"})
    asked = []

    def found(command, *, env, **options):
        core = env["OPENBLAS_CORETYPE"]
        return types.SimpleNamespace(stdout=f"{core}\n")

    def call(command, *, env):
        asked.append((env["OPENBLAS_CORETYPE"], env.get("TF_ENABLE_ONEDNN_OPTS")))
        return env["OPENBLAS_CORETYPE"] == "Haswell"

    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    monkeypatch.setattr(subprocess, "run", found)
    monkeypatch.setattr(subprocess, "call", call)
    assert kernels.main([]) == 1
    assert asked == [("Prescott", "0"), ("Haswell", None)]
    said = capsys.readouterr().out
    assert "SkylakeX: skipped, the processor has no avx512f" in said
    assert said.endswith("failed under the kernels of: Haswell\n")


def test_kernels_that_ran_already_are_skipped(monkeypatch, capsys):
    monkeypatch.setattr(
        kernels, "flags_of_processor", lambda: {"pni", "avx2", "avx512f"}
    )
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: types.SimpleNamespace(stdout="Katmai\n")
    )
    monkeypatch.setattr(subprocess, "call", lambda *_, **__: 0)
    assert kernels.main([]) == 0
    assert "SkylakeX: skipped, NumPy runs those of Prescott" in capsys.readouterr().out


def test_flags_of_a_processor(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nflags\t\t: fpu pni avx2\nprocessor : 1\n")
    assert kernels.flags_of_processor(path) == {"fpu", "pni", "avx2"}
    assert kernels.flags_of_processor(tmp_path / "none") == set()
