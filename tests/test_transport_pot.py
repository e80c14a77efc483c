"""POT brings no other library along, unless the user wants it to."""

import os
import subprocess
import sys

import pytest
from launch import environment

STUBS = {
    "ot": "import os, json; said = {k: v for k, v in os.environ.items() if k.startswith('POT_BACKEND')}",
    "jax": "",
}


def ended(tmp_path, first="", **more):
    for name, text in STUBS.items():
        (tmp_path / f"{name}.py").write_text(text)
    show = "print(sorted(found.said.items()), [k for k in os.environ if k.startswith('POT_BACKEND')])"
    code = f"import os, sys{first}\nfrom regimes.transport.pot import pot\nfound = pot()\nassert pot() is found\n{show}"
    kept = {key: value for key, value in environment(**more).items() if not key.startswith("POT_") or key in more}
    kept["PYTHONPATH"] = os.pathsep.join([str(tmp_path), kept["PYTHONPATH"]])
    done = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_backends_are_blocked_while_pot_is_imported_and_no_longer(tmp_path):
    blocked = [(f"POT_BACKEND_DISABLE_{name}", "1") for name in ("CUPY", "JAX", "TENSORFLOW")]
    assert ended(tmp_path) == f"{blocked} []"


def test_what_the_user_has_set_stays(tmp_path):
    assert "('POT_BACKEND_DISABLE_JAX', '')" in ended(tmp_path, POT_BACKEND_DISABLE_JAX="")


def test_what_the_user_has_imported_stays_usable(tmp_path):
    assert "JAX" not in ended(tmp_path, first=", jax")


@pytest.mark.slow
def test_the_real_pot_heeds_it(tmp_path):
    for name in ("jax", "cupy", "tensorflow"):
        (tmp_path / f"{name}.py").write_text("raise SystemError('imported')")
    code = "from regimes.transport import exact_transport; print(exact_transport([[0.0], [2.0]], [[1.0], [3.0]]).cost)"
    kept = {key: value for key, value in environment().items() if not key.startswith("POT_")}
    kept["PYTHONPATH"] = os.pathsep.join([str(tmp_path), kept["PYTHONPATH"]])
    done = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1.0"
