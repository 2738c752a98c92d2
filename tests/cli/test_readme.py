"""Every command in the README does what it says there."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.running import ENVIRONMENT, free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
TRAINING, REQUEST = BLOCKS
BIN = Path(sys.executable).parent


def run(command, cwd, **options):
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command], cwd=cwd, env={**ENVIRONMENT, "PATH": path}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False, timeout=900, **options,
    )  # fmt: skip


def test_the_commands_up_front_are_make_demo_and_make_test_and_they_are_what_they_say():
    commands = re.findall(r"^    (make \w+)", README, re.MULTILINE)
    assert commands == ["make demo", "make test"]
    planned = run("make --dry-run test", ROOT).stdout
    assert "pytest" in planned  # this very run
    assert "tollgate demo" in run("make --dry-run demo", ROOT).stdout


def test_the_demo_ends_with_its_table_and_report_and_no_skew(tmp_path):
    done = run("tollgate demo", tmp_path)
    assert done.returncode == 0, done.stdout
    for words in ("average precision on the test week", "alerts a day", "(p50)", "(p99)", "approved / reviewed"):
        assert words in done.stdout
    assert re.search(r"skew.*│\s*0 bits", done.stdout), done.stdout
    report = (tmp_path / "demo/report.html").read_text()
    assert "Live traffic" in report
    assert report.count("<img") >= 9
    assert {path.name for path in tmp_path.iterdir()} == {"demo"}  # nothing is written outside


def test_the_demo_never_empties_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    done = run("tollgate demo --folder mine", tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"


def test_the_commands_for_ones_own_payments_run_in_order_and_the_server_answers_curl(tmp_path):
    if shutil.which("curl") is None:
        assert os.environ.get("CI") != "true", "curl is missing"
        pytest.skip("needs curl: apt-get install curl")
    port = str(free_port())
    commands = [line for line in TRAINING.replace("8080", port).splitlines() if line]
    assert commands[-1].startswith("tollgate serve")
    for command in commands[:-1]:
        done = run(command, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
    command = ["bash", "-c", "exec " + commands[-1]]
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    server = subprocess.Popen(command, cwd=tmp_path, env={**ENVIRONMENT, "PATH": path}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if run(f"curl -sf http://127.0.0.1:{port}/health/ready", tmp_path).returncode == 0:
                break
            time.sleep(0.1)
        answer = json.loads(run(REQUEST.replace("8080", port), tmp_path).stdout)
    finally:
        server.terminate()
        server.wait(30)
    assert answer["transaction_id"] == "t-1"
    assert answer["mode"] == "normal"
    assert set(answer) == {"transaction_id", "outcome", "score", "confidence", "mode", "reasons", "missing", "bundle"}


def test_the_configuration_and_the_features_shown_there_are_valid(tmp_path):
    from tollgate.config import read_config
    from tollgate.features.plan import compile_plan
    from tollgate.features.source import read_features

    (toml,) = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (python,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "tollgate.toml").write_text(toml)
    (tmp_path / "features.py").write_text(python)
    config = read_config(tmp_path / "tollgate.toml")
    plan = compile_plan(read_features(Path(config.features)), config.table, config.money.scale)
    assert "device_is_new_for_card" in plan.names


def test_every_file_that_the_readme_names_is_there():
    for name in ("examples", "benchmarks", "docs/architecture.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"):
        assert (ROOT / name).exists(), name
