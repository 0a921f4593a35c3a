"""Errors of memory that is used up, each told in a line that says what to make smaller."""

import traceback

from backbone.reading import lacks_memory

OWN = ("backbone.", "a3d_env.", "agents.", "scripts.")
OF_TRAINING = (
    "--load.num-people, --load.clips-per-person, --load.num-frames, --load.height and --load.width (a batch), "
    "--load.workers (batches loaded ahead), --joint.episodes-per-clip"
)
SMALLER = {
    "train": OF_TRAINING,
    "ablate": f"--jobs (runs at a time), {OF_TRAINING}",
    "evaluate": f"the data (--data), with --splits also --jobs (runs at a time), {OF_TRAINING}",
    "embed": "the data (--data)",
    "search": "query or gallery",
    "bank": "--clips-per-batch",
    "probe": "--clips-per-batch, --max-clips",
    "policy": "--num-envs, --overview",
    "compare": "--jobs (runs at a time), --num-envs, --overview",
    "debug": "the data (--data)",
    "data": "--workers (of data cache), --chunk-frames (of data cut), the images",
}


def out_of_memory(error: BaseException, command: str) -> str:
    """Say in a line where the memory was used up, and what to make smaller; empty if the error is another one.

    Args:
        error: an error of Python, NumPy, OpenCV or torch, on the CPU or a GPU.
        command: name of the command of `a3d`.
    """
    if not lacks_memory(error):
        return ""
    reason = " ".join(str(error).split())
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    places = [(frame.f_globals.get("__name__", ""), frame.f_code.co_name) for frame in frames]
    where = next((f" in {module}.{name}" for module, name in reversed(places) if module.startswith(OWN)), "")
    smaller = f"Make smaller: {SMALLER[command]}; or" if command in SMALLER else "Use"
    return (
        f"there is not enough memory{where} ({reason[:200] or type(error).__name__}). {smaller} "
        "a machine with more (--device cpu where only a GPU's is full)"
    )
