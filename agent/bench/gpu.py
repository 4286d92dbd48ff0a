"""How busy the GPU is, as ``nvidia-smi`` tells it."""

import shutil
import subprocess
from types import TracebackType

__all__ = ["GpuShare"]


class GpuShare:
    """Samples the use of the first GPU while its block runs.

    ::

        with GpuShare() as gpu:
            ...
        gpu.share  # 0 to 1, None where there is no GPU
    """

    share: float | None = None

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "GpuShare":
        program = shutil.which("nvidia-smi")
        if program is not None:
            query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0"]
            self._process = subprocess.Popen(
                [program, *query, "-lms", "500"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        lines, _ = self._process.communicate()
        values = [int(line) for line in lines.split() if line.isdecimal()]
        if values:
            self.share = sum(values) / len(values) / 100
