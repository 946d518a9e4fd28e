"""The DAG of notebooks, for Snakemake.

`./run_all.sh` calls this with checks, a short log and an index page around it; `snakemake --config preset=fast` works
too. Which stages there are, what they need and their parameters stand in config/. One rule runs them all:

- The output is the stage's result file, so a stage is done when its notebook has come to its last cell.
- The executed notebook, the HTML and the text log are `log:` files: they outlive a failed job, outputs do not.
- Parameters come from `lambda w:`, as Snakemake notices no change in those that look at `input` or `output`. Among them
  are digests: of the package, of the bundled data, and of what the notebook's parameters name outside the checkout. As
  `input:`, each of thousands of files would be a node of the DAG that is looked at every second, and one that is
  removed an error.
"""

import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "workflow"))

from stages import data_files, digest, library_files, read_plan
from sweeps import read_sweep


def path_of(address):
    """A path, given as an address that the engine, which reads values as YAML, cannot mistake; None for anything else."""
    is_address = address.startswith("file:")
    return Path(unquote(address.removeprefix("file://"), errors="surrogateescape")) if is_address else None


PRESET = str(config.get("preset", "fast"))
NAME = str(config.get("name", "")).removeprefix("name:")
SWEEP = path_of(str(config.get("sweep", "")))
if SWEEP:
    PLAN = read_sweep(SWEEP, ROOT, NAME)
else:
    CLIPS = path_of(str(config.get("clips", "")))
    PLAN = read_plan(path_of(PRESET) or ROOT / "config" / f"{PRESET}.yaml", ROOT, NAME, CLIPS)
STAGE = "{stage}/{point}" if SWEEP else "{stage}"
PYTHON = sys.executable
LIBRARY, DATA = (f"{what}: {digest(ROOT, files)}" for what, files in (("package", library_files(ROOT)), ("data", data_files(ROOT))))


def stage_of(w):
    """The stage of a job's wildcards."""
    return PLAN.stages[STAGE.format(**dict(w.items()))]


wildcard_constraints:
    stage="|".join(dict.fromkeys(name.partition("/")[0] for name in PLAN.stages)),
    point="[^/]+",


rule all:
    input:
        # those that sum up have no inputs to wait for: run_all.sh calls for them when the others are done
        [str(PLAN.result(stage)) for stage in PLAN.with_needs([]) if not PLAN.stages[stage].last],


rule notebook:
    input:
        notebook="notebooks/{stage}.ipynb",
        script="workflow/execute.py",
        upstream=lambda w: [str(PLAN.result(need)) for need in stage_of(w).needs],
    output:
        str(PLAN.result(STAGE)),
    log:
        text=str(PLAN.log(STAGE)),
        executed=str(PLAN.executed(STAGE)),
        html=str(PLAN.html(STAGE)),
    params:
        parameters=lambda w: stage_of(w).parameters_json,
        library=LIBRARY,
        data=DATA,
        inputs=lambda w: stage_of(w).inputs_text,
        run_dir=lambda w: str(PLAN.folder(stage_of(w).name)),
    threads: lambda w: stage_of(w).threads
    # what takes all cores goes first (squared, as the engine adds up what two small ones weigh), then what takes longest,
    # so that what is short fills them to the end; of equals, what others wait for
    priority: lambda w: 10**6 * stage_of(w).threads ** 2 + 2 * stage_of(w).seconds + any(stage_of(w).name in other.needs for other in PLAN.stages.values())
    resources:
        mem_mb=lambda w: stage_of(w).memory_mb,
    message:
        STAGE.replace("{", "{wildcards.")
    # exec: a signal to the job then reaches the script and not a shell around it
    shell:
        "exec {PYTHON:q} {input.script:q} --stage {wildcards.stage:q} --notebook {input.notebook:q}"
        " --run-dir {params.run_dir:q} --needs {input.upstream:q} --threads {threads} --parameters {params.parameters:q} --inputs {params.inputs:q}"
        " > {log.text:q} 2>&1"
