"""Slurm's commands as far as submitit calls them: jobs are processes of this machine."""

import os
import pathlib
import sys

# Each job writes its process id, then runs what sbatch was given.
_SBATCH = """
import os, pathlib, re, subprocess, sys
state = pathlib.Path(__file__).parent
with (state / "submissions").open("a") as file:
    file.write("one\\n")
number = str(100 + len((state / "submissions").read_text().split()))
script = sys.argv[1]
array = re.search(r"--array=0-([0-9]+)%([0-9]+)", pathlib.Path(script).read_text())
kept = pathlib.Path(script).with_suffix(".kept")  # submitit removes the script
kept.write_text(pathlib.Path(script).read_text())
for place in range(int(array[1]) + 1 if array else 1):
    job = f"{number}_{place}" if array else number
    within = {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(place)} if array else {}
    environment = os.environ | {"SLURM_JOB_ID": job} | within
    process = subprocess.Popen(
        ["bash", str(kept)], env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    (state / f"job-{job}").write_text(str(process.pid))
print("Submitted batch job", number)
"""
_SRUN = """
import os, sys
command = sys.argv[sys.argv.index("--error") + 2:]
os.execvp(command[0], command)
"""
_SCONTROL = """
import pathlib, sys
(pathlib.Path(__file__).parent / f"requeued-{sys.argv[2]}").touch()
"""
_SACCT = """
import os, pathlib
print("JobID|State|NodeList")
for path in pathlib.Path(__file__).parent.glob("job-*"):
    try:
        stat = pathlib.Path("/proc", path.read_text(), "stat").read_text()
        alive = stat.rpartition(")")[2].split()[0] != "Z"
    except OSError:
        alive = False
    print(f"{path.name.removeprefix('job-')}|{'RUNNING' if alive else 'FAILED'}|here")
"""


_COMMANDS = {"sbatch": _SBATCH, "srun": _SRUN, "sacct": _SACCT, "scontrol": _SCONTROL}


def install(folder: pathlib.Path) -> str:
    """Writes the commands into a folder; returns the PATH that begins with it."""
    folder.mkdir()
    for name, text in _COMMANDS.items():
        (folder / name).write_text(f"#!{sys.executable}\n{text}")
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def submissions(folder: pathlib.Path) -> int:
    """How often sbatch was called."""
    path = folder / "submissions"
    return len(path.read_text().split()) if path.exists() else 0
